/* libssh as a client; peer_acts.ts says what the arguments mean. */

#include <libssh/libssh.h>
#include <libssh/sftp.h>

#include "peer.h"

static ssh_session session;

static const char *last_error(void) { return ssh_get_error(session); }

static void connect_to(char **args) {
  long port = atoi(args[3]);
  uint64_t rekey_bytes = 1000000;
  int no = 0;
  session = ssh_new();
  ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &no);
  ssh_options_set(session, SSH_OPTIONS_HOST, args[2]);
  ssh_options_set(session, SSH_OPTIONS_PORT, &port);
  ssh_options_set(session, SSH_OPTIONS_USER, args[4]);
  ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, args[6]);
  ssh_options_set(session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null");
  if (strcmp(args[1], "rekey") == 0)
    ssh_options_set(session, SSH_OPTIONS_REKEY_DATA, &rekey_bytes);
  check(ssh_connect(session) == SSH_OK, "connect");
  check(ssh_session_is_known_server(session) == SSH_KNOWN_HOSTS_OK, "known_hosts");
  ssh_key key;
  check(ssh_pki_import_privkey_file(args[5], NULL, NULL, NULL, &key) == SSH_OK, "key");
  check(ssh_userauth_publickey(session, NULL, key) == SSH_AUTH_SUCCESS, "login");
}

static ssh_channel new_session(void) {
  ssh_channel channel = ssh_channel_new(session);
  check(ssh_channel_open_session(channel) == SSH_OK, "session");
  return channel;
}

/* Sends the input and takes both streams until the other side has ended them. */
static void pump(ssh_channel channel, const char *input, size_t length) {
  char buffer[chunk];
  int has_ended = 0;
  while (!ssh_channel_is_eof(channel)) {
    int is_idle = 1;
    uint32_t window = ssh_channel_window_size(channel);
    if (length > 0 && window > 0) {
      size_t count = length < window ? length : window;
      int written = ssh_channel_write(channel, input, count < chunk ? count : chunk);
      check(written > 0, "send");
      input += written;
      length -= written;
      is_idle = 0;
    }
    if (length == 0 && !has_ended) has_ended = ssh_channel_send_eof(channel) == SSH_OK;
    for (int is_stderr = 0; is_stderr < 2; is_stderr++) {
      int count;
      while ((count = ssh_channel_read_nonblocking(channel, buffer, chunk, is_stderr)) > 0) {
        write_all(is_stderr ? 2 : 1, buffer, count);
        is_idle = 0;
      }
      check(count >= 0 || count == SSH_EOF, "receive");
    }
    if (is_idle) ssh_channel_poll_timeout(channel, 20, 0);
  }
  ssh_channel_close(channel);
}

static int execute(const char *command) {
  size_t length;
  char *input = slurp(0, &length);
  ssh_channel channel = new_session();
  check(ssh_channel_request_exec(channel, command) == SSH_OK, "exec");
  pump(channel, input, length);
  return ssh_channel_get_exit_status(channel);
}

static int use_terminal(const char *command) {
  char byte;
  ssh_channel channel = new_session();
  check(ssh_channel_request_pty_size(channel, "xterm", 100, 30) == SSH_OK, "pty");
  check(ssh_channel_request_exec(channel, command) == SSH_OK, "exec");
  do {
    check(ssh_channel_read(channel, &byte, 1, 0) == 1, "receive");
    write_all(1, &byte, 1);
  } while (byte != '\n');
  check(ssh_channel_change_pty_size(channel, 120, 40) == SSH_OK, "window-change");
  check(ssh_channel_write(channel, "go\n", 3) == 3, "send");
  while (ssh_channel_read(channel, &byte, 1, 0) == 1) write_all(1, &byte, 1);
  return ssh_channel_get_exit_status(channel);
}

static void transfer(const char *folder) {
  char buffer[chunk];
  size_t length;
  sftp_session sftp = sftp_new(session);
  check(sftp != NULL && sftp_init(sftp) == SSH_OK, "sftp");
  check(sftp_mkdir(sftp, in(folder, "remote"), 0700) == 0, "mkdir");
  char *data = slurp(open(in(folder, "file"), O_RDONLY), &length);
  sftp_file file = sftp_open(sftp, in(folder, "remote/file"), O_WRONLY | O_CREAT, 0600);
  check(file != NULL, "open");
  for (size_t at = 0; at < length;) {
    size_t count = length - at < chunk ? length - at : chunk;
    ssize_t written = sftp_write(file, data + at, count);
    check(written > 0, "put");
    at += written;
  }
  sftp_close(file);
  check(sftp_rename(sftp, in(folder, "remote/file"), in(folder, "remote/renamed")) == 0, "rename");
  sftp_dir names = sftp_opendir(sftp, in(folder, "remote"));
  for (sftp_attributes entry; (entry = sftp_readdir(sftp, names)) != NULL;) puts(entry->name);
  sftp_closedir(names);
  file = sftp_open(sftp, in(folder, "remote/renamed"), O_RDONLY, 0);
  int back = open(in(folder, "back"), O_WRONLY | O_CREAT, 0600);
  for (ssize_t count; (count = sftp_read(file, buffer, sizeof buffer)) > 0;)
    write_all(back, buffer, count);
  sftp_close(file);
  sftp_unlink(sftp, in(folder, "remote/missing"));
  if (sftp_get_error(sftp) == SSH_FX_NO_SUCH_FILE) puts("missing");
  sftp_free(sftp);
}

static void forward_local(int to) {
  size_t length;
  char *input = slurp(0, &length);
  ssh_channel channel = ssh_channel_new(session);
  check(ssh_channel_open_forward(channel, "127.0.0.1", to, "127.0.0.1", 0) == SSH_OK, "forward");
  pump(channel, input, length);
}

/* Carries what is there between a channel and a socket; false when both have ended. */
static int carry(ssh_channel channel, int *fd) {
  char buffer[chunk];
  int count = ssh_channel_read_nonblocking(channel, buffer, chunk, 0);
  if (count > 0) write_all(*fd, buffer, count);
  else if (ssh_channel_is_eof(channel)) shutdown(*fd, SHUT_WR);
  struct pollfd ready = {.fd = *fd, .events = POLLIN};
  if (ssh_channel_window_size(channel) < chunk || poll(&ready, 1, 0) < 1) return 1;
  count = read(*fd, buffer, chunk);
  if (count > 0) return ssh_channel_write(channel, buffer, count) == count;
  ssh_channel_send_eof(channel);
  ssh_channel_close(channel);
  close(*fd);
  return 0;
}

static void forward_remote(int to) {
  ssh_channel channels[8];
  int fds[8], count = 0, port;
  check(ssh_channel_listen_forward(session, "127.0.0.1", 0, &port) == SSH_OK, "listen");
  printf("port %d\n", port);
  fflush(stdout);
  struct pollfd input = {.fd = 0, .events = POLLIN};
  while (poll(&input, 1, 0) == 0) {
    ssh_channel channel = ssh_channel_open_forward_port(session, 5, NULL, NULL, NULL);
    if (channel != NULL && count < 8) {
      channels[count] = channel;
      fds[count++] = connect_here(to);
    }
    for (int at = 0; at < count; at++)
      if (channels[at] != NULL && !carry(channels[at], &fds[at])) channels[at] = NULL;
  }
}

static void run_ten(void) {
  ssh_channel channels[10];
  char buffer[chunk];
  for (int number = 0; number < 10; number++) {
    char command[30];
    snprintf(command, sizeof command, "cat; exit %d", number);
    channels[number] = new_session();
    check(ssh_channel_request_exec(channels[number], command) == SSH_OK, "exec");
  }
  for (int number = 0; number < 10; number++) {
    memset(buffer, '0' + number, 20000);
    check(ssh_channel_write(channels[number], buffer, 20000) == 20000, "send");
    ssh_channel_send_eof(channels[number]);
  }
  for (int number = 0; number < 10; number++) {
    size_t length = 0;
    for (int count; (count = ssh_channel_read(channels[number], buffer + length, chunk - length, 0)) > 0;)
      length += count;
    ssh_channel_close(channels[number]);
    print_session(number, ssh_channel_get_exit_status(channels[number]), buffer, length);
  }
}

int main(int count, char **args) {
  if (count < 7) return 98;
  const char *name = args[1];
  int status = 0;
  connect_to(args);
  if (strcmp(name, "exec") == 0 || strcmp(name, "rekey") == 0) status = execute(args[7]);
  else if (strcmp(name, "terminal") == 0) status = use_terminal(args[7]);
  else if (strcmp(name, "sftp") == 0) transfer(args[7]);
  else if (strcmp(name, "local") == 0) forward_local(atoi(args[7]));
  else if (strcmp(name, "remote") == 0) forward_remote(atoi(args[7]));
  else if (strcmp(name, "ten") == 0) run_ten();
  fflush(stdout);
  ssh_disconnect(session);
  return status;
}
