/* libssh2 as a client; peer_acts.ts says what the arguments mean. */

#include <libssh2.h>
#include <libssh2_sftp.h>

#include "peer.h"

static LIBSSH2_SESSION *session;
static int connection;

static const char *last_error(void) {
  char *message = "no session";
  if (session != NULL) libssh2_session_last_error(session, &message, NULL, 0);
  return message;
}

static void connect_to(char **args) {
  int port = atoi(args[3]);
  size_t length;
  int type;
  libssh2_init(0);
  connection = connect_here(port);
  session = libssh2_session_init();
  check(libssh2_session_handshake(session, connection) == 0, "handshake");
  const char *key = libssh2_session_hostkey(session, &length, &type);
  LIBSSH2_KNOWNHOSTS *hosts = libssh2_knownhost_init(session);
  libssh2_knownhost_readfile(hosts, args[6], LIBSSH2_KNOWNHOST_FILE_OPENSSH);
  check(libssh2_knownhost_checkp(hosts, args[2], port, key, length,
                                 LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW,
                                 NULL) == LIBSSH2_KNOWNHOST_CHECK_MATCH,
        "known_hosts");
  check(libssh2_userauth_publickey_fromfile(session, args[4], NULL, args[5], NULL) == 0, "login");
}

static LIBSSH2_CHANNEL *new_session(void) {
  LIBSSH2_CHANNEL *channel = libssh2_channel_open_session(session);
  check(channel != NULL, "session");
  return channel;
}

/* Waits for the other side. */
static void wait_for_more(void) {
  struct pollfd ready = {.fd = connection, .events = POLLIN};
  poll(&ready, 1, 20);
}

/* Sends the input and takes both streams until the other side has ended them. */
static void pump(LIBSSH2_CHANNEL *channel, const char *input, size_t length) {
  char buffer[chunk];
  int has_ended = 0;
  libssh2_session_set_blocking(session, 0);
  while (!libssh2_channel_eof(channel)) {
    int is_idle = 1;
    if (length > 0) {
      ssize_t written = libssh2_channel_write(channel, input, length < chunk ? length : chunk);
      check(written >= 0 || written == LIBSSH2_ERROR_EAGAIN, "send");
      if (written > 0) {
        input += written;
        length -= written;
        is_idle = 0;
      }
    }
    if (length == 0 && !has_ended) has_ended = libssh2_channel_send_eof(channel) == 0;
    for (int is_stderr = 0; is_stderr < 2; is_stderr++) {
      ssize_t count;
      while ((count = libssh2_channel_read_ex(channel, is_stderr, buffer, chunk)) > 0) {
        write_all(is_stderr ? 2 : 1, buffer, count);
        is_idle = 0;
      }
      check(count >= 0 || count == LIBSSH2_ERROR_EAGAIN, "receive");
    }
    if (is_idle) wait_for_more();
  }
  libssh2_session_set_blocking(session, 1);
}

static int end(LIBSSH2_CHANNEL *channel) {
  check(libssh2_channel_close(channel) == 0, "close");
  check(libssh2_channel_wait_closed(channel) == 0, "close");
  return libssh2_channel_get_exit_status(channel);
}

static int execute(const char *command) {
  size_t length;
  char *input = slurp(0, &length);
  LIBSSH2_CHANNEL *channel = new_session();
  check(libssh2_channel_exec(channel, command) == 0, "exec");
  pump(channel, input, length);
  return end(channel);
}

static int use_terminal(const char *command) {
  char byte;
  LIBSSH2_CHANNEL *channel = new_session();
  check(libssh2_channel_request_pty_ex(channel, "xterm", 5, NULL, 0, 100, 30, 0, 0) == 0, "pty");
  check(libssh2_channel_exec(channel, command) == 0, "exec");
  do {
    check(libssh2_channel_read(channel, &byte, 1) == 1, "receive");
    write_all(1, &byte, 1);
  } while (byte != '\n');
  check(libssh2_channel_request_pty_size(channel, 120, 40) == 0, "window-change");
  check(libssh2_channel_write(channel, "go\n", 3) == 3, "send");
  while (libssh2_channel_read(channel, &byte, 1) == 1) write_all(1, &byte, 1);
  return end(channel);
}

static void transfer(const char *folder) {
  char buffer[chunk];
  size_t length;
  LIBSSH2_SFTP *sftp = libssh2_sftp_init(session);
  check(sftp != NULL, "sftp");
  check(libssh2_sftp_mkdir(sftp, in(folder, "remote"), 0700) == 0, "mkdir");
  char *data = slurp(open(in(folder, "file"), O_RDONLY), &length);
  LIBSSH2_SFTP_HANDLE *file = libssh2_sftp_open(
      sftp, in(folder, "remote/file"), LIBSSH2_FXF_WRITE | LIBSSH2_FXF_CREAT, 0600);
  check(file != NULL, "open");
  for (size_t at = 0; at < length;) {
    ssize_t written = libssh2_sftp_write(file, data + at, length - at);
    check(written > 0, "put");
    at += written;
  }
  libssh2_sftp_close(file);
  check(libssh2_sftp_rename(sftp, in(folder, "remote/file"), in(folder, "remote/renamed")) == 0,
        "rename");
  LIBSSH2_SFTP_HANDLE *names = libssh2_sftp_opendir(sftp, in(folder, "remote"));
  LIBSSH2_SFTP_ATTRIBUTES attributes;
  while (libssh2_sftp_readdir(names, buffer, sizeof buffer, &attributes) > 0) puts(buffer);
  libssh2_sftp_closedir(names);
  file = libssh2_sftp_open(sftp, in(folder, "remote/renamed"), LIBSSH2_FXF_READ, 0);
  int back = open(in(folder, "back"), O_WRONLY | O_CREAT, 0600);
  for (ssize_t count; (count = libssh2_sftp_read(file, buffer, sizeof buffer)) > 0;)
    write_all(back, buffer, count);
  libssh2_sftp_close(file);
  libssh2_sftp_unlink(sftp, in(folder, "remote/missing"));
  if (libssh2_sftp_last_error(sftp) == LIBSSH2_FX_NO_SUCH_FILE) puts("missing");
  libssh2_sftp_shutdown(sftp);
}

static void forward_local(int to) {
  size_t length;
  char *input = slurp(0, &length);
  LIBSSH2_CHANNEL *channel = libssh2_channel_direct_tcpip(session, "127.0.0.1", to);
  check(channel != NULL, "forward");
  pump(channel, input, length);
  end(channel);
}

/* A forwarded connection, and what of the service could not be sent yet. */
struct forwarded {
  LIBSSH2_CHANNEL *channel;
  int fd, has_ended, has_said_so;
  char pending[chunk];
  size_t at, length;
};

/* Carries what is there between a channel and a socket. */
static void carry(struct forwarded *one) {
  char buffer[chunk];
  ssize_t count = libssh2_channel_read(one->channel, buffer, chunk);
  if (count > 0) write_all(one->fd, buffer, count);
  else if (libssh2_channel_eof(one->channel)) shutdown(one->fd, SHUT_WR);
  struct pollfd ready = {.fd = one->fd, .events = POLLIN};
  if (one->length == 0 && !one->has_ended && poll(&ready, 1, 0) > 0) {
    count = read(one->fd, one->pending, chunk);
    one->at = 0;
    if (count > 0) one->length = count;
    else one->has_ended = 1;
  }
  if (one->length > 0) {
    count = libssh2_channel_write(one->channel, one->pending + one->at, one->length);
    if (count > 0) one->at += count, one->length -= count;
  } else if (one->has_ended && !one->has_said_so) {
    one->has_said_so = libssh2_channel_send_eof(one->channel) == 0;
  } else if (one->has_said_so && libssh2_channel_close(one->channel) == 0) {
    close(one->fd);
    one->channel = NULL;
  }
}

static void forward_remote(int to) {
  static struct forwarded all[8];
  int count = 0, port;
  LIBSSH2_LISTENER *listener = libssh2_channel_forward_listen_ex(session, "127.0.0.1", 0, &port, 8);
  check(listener != NULL, "listen");
  printf("port %d\n", port);
  fflush(stdout);
  libssh2_session_set_blocking(session, 0);
  struct pollfd input = {.fd = 0, .events = POLLIN};
  while (poll(&input, 1, 1) == 0) {
    LIBSSH2_CHANNEL *channel = libssh2_channel_forward_accept(listener);
    if (channel != NULL && count < 8)
      all[count++] = (struct forwarded){.channel = channel, .fd = connect_here(to)};
    for (int at = 0; at < count; at++)
      if (all[at].channel != NULL) carry(&all[at]);
  }
  libssh2_session_set_blocking(session, 1);
}

static void run_ten(void) {
  LIBSSH2_CHANNEL *channels[10];
  char buffer[chunk];
  for (int number = 0; number < 10; number++) {
    char command[30];
    snprintf(command, sizeof command, "cat; exit %d", number);
    channels[number] = new_session();
    check(libssh2_channel_exec(channels[number], command) == 0, "exec");
  }
  for (int number = 0; number < 10; number++) {
    memset(buffer, '0' + number, 20000);
    check(libssh2_channel_write(channels[number], buffer, 20000) == 20000, "send");
    check(libssh2_channel_send_eof(channels[number]) == 0, "eof");
  }
  for (int number = 0; number < 10; number++) {
    size_t length = 0;
    ssize_t count;
    while ((count = libssh2_channel_read(channels[number], buffer + length, chunk - length)) > 0)
      length += count;
    print_session(number, end(channels[number]), buffer, length);
  }
}

int main(int count, char **args) {
  if (count < 7) return 98;
  const char *name = args[1];
  int status = 0;
  connect_to(args);
  if (strcmp(name, "exec") == 0) status = execute(args[7]);
  else if (strcmp(name, "terminal") == 0) status = use_terminal(args[7]);
  else if (strcmp(name, "sftp") == 0) transfer(args[7]);
  else if (strcmp(name, "local") == 0) forward_local(atoi(args[7]));
  else if (strcmp(name, "remote") == 0) forward_remote(atoi(args[7]));
  else if (strcmp(name, "ten") == 0) run_ten();
  fflush(stdout);
  libssh2_session_disconnect(session, "done");
  return status;
}
