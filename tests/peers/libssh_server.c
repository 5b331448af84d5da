/* libssh as a server, a process for each connection; peer_servers.ts says what the arguments mean. */

#define _GNU_SOURCE
#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "peer.h"

/* A channel and what it leads to: a command's pipes, its terminal, or a socket. */
struct joint {
  ssh_channel channel;
  struct winsize size;
  char term[64];
  pid_t child;
  int in, out, err; /* -1: there is none, or it has ended. */
  int is_socket, has_said_eof;
};

struct listener {
  int fd, port;
  char address[256];
};

enum { most = 64 };

static ssh_session session;
static ssh_key user;
static struct joint joints[most];
static struct listener listeners[most];
static int joint_count, listener_count;

static const char *last_error(void) { return session ? ssh_get_error(session) : "no session"; }

static struct joint *add_joint(ssh_channel channel) {
  check(joint_count < most, "too many channels");
  struct joint *one = &joints[joint_count++];
  *one = (struct joint){.channel = channel, .in = -1, .out = -1, .err = -1};
  return one;
}

static struct joint *joint_of(ssh_channel channel) {
  for (int at = 0; at < joint_count; at++)
    if (joints[at].channel == channel) return &joints[at];
  return NULL;
}

static void join_socket(ssh_channel channel, int fd) {
  struct joint *one = add_joint(channel);
  one->in = one->out = fd;
  one->is_socket = 1;
}

static void start(struct joint *one, const char *command) {
  int in[2], out[2], err[2], terminal;
  if (one->term[0] != 0) {
    one->child = forkpty(&terminal, NULL, NULL, &one->size);
    if (one->child == 0) {
      setenv("TERM", one->term, 1);
      execl("/bin/sh", "sh", "-c", command, NULL);
      _exit(127);
    }
    one->in = one->out = terminal;
    return;
  }
  check(pipe2(in, O_CLOEXEC) + pipe2(out, O_CLOEXEC) + pipe2(err, O_CLOEXEC) == 0, "pipe");
  one->child = fork();
  if (one->child == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    execl("/bin/sh", "sh", "-c", command, NULL);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  one->in = in[1];
  one->out = out[0];
  one->err = err[0];
}

/* A request of the client; 0 when it is granted. */
static int on_message(ssh_session from, ssh_message message, void *unused) {
  (void)from, (void)unused;
  ssh_channel channel = ssh_message_channel_request_channel(message);
  struct joint *one = channel ? joint_of(channel) : NULL;
  int type = ssh_message_type(message), subtype = ssh_message_subtype(message);
  if (type == SSH_REQUEST_AUTH && subtype == SSH_AUTH_METHOD_PUBLICKEY) {
    if (ssh_key_cmp(ssh_message_auth_pubkey(message), user, SSH_KEY_CMP_PUBLIC) != 0) return 1;
    if (ssh_message_auth_publickey_state(message) == SSH_PUBLICKEY_STATE_NONE)
      ssh_message_auth_reply_pk_ok_simple(message);
    else if (ssh_message_auth_publickey_state(message) == SSH_PUBLICKEY_STATE_VALID)
      ssh_message_auth_reply_success(message, 0);
    else
      return 1;
  } else if (type == SSH_REQUEST_AUTH) {
    ssh_message_auth_set_methods(message, SSH_AUTH_METHOD_PUBLICKEY);
    return 1;
  } else if (type == SSH_REQUEST_CHANNEL_OPEN && subtype == SSH_CHANNEL_SESSION) {
    add_joint(ssh_message_channel_request_open_reply_accept(message));
  } else if (type == SSH_REQUEST_CHANNEL_OPEN && subtype == SSH_CHANNEL_DIRECT_TCPIP) {
    /* A toy: where nobody listens, the whole connection ends. */
    int fd = connect_here(ssh_message_channel_request_open_destination_port(message));
    join_socket(ssh_message_channel_request_open_reply_accept(message), fd);
  } else if (type == SSH_REQUEST_CHANNEL && one != NULL && subtype == SSH_CHANNEL_REQUEST_PTY) {
    snprintf(one->term, sizeof one->term, "%s", ssh_message_channel_request_pty_term(message));
    one->size.ws_row = ssh_message_channel_request_pty_height(message);
    one->size.ws_col = ssh_message_channel_request_pty_width(message);
    ssh_message_channel_request_reply_success(message);
  } else if (type == SSH_REQUEST_CHANNEL && one != NULL &&
             subtype == SSH_CHANNEL_REQUEST_WINDOW_CHANGE) {
    one->size.ws_row = ssh_message_channel_request_pty_height(message);
    one->size.ws_col = ssh_message_channel_request_pty_width(message);
    ioctl(one->in, TIOCSWINSZ, &one->size);
  } else if (type == SSH_REQUEST_CHANNEL && one != NULL && subtype == SSH_CHANNEL_REQUEST_EXEC) {
    start(one, ssh_message_channel_request_command(message));
    ssh_message_channel_request_reply_success(message);
  } else if (type == SSH_REQUEST_CHANNEL && one != NULL &&
             subtype == SSH_CHANNEL_REQUEST_SUBSYSTEM) {
    start(one, "exec /usr/lib/openssh/sftp-server");
    ssh_message_channel_request_reply_success(message);
  } else if (type == SSH_REQUEST_GLOBAL && subtype == SSH_GLOBAL_REQUEST_TCPIP_FORWARD) {
    struct listener *at = &listeners[listener_count];
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int yes = 1, port = ssh_message_global_request_port(message);
    address.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    at->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(at->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(at->fd, (struct sockaddr *)&address, size) != 0 || listen(at->fd, 8) != 0) return 1;
    getsockname(at->fd, (struct sockaddr *)&address, &size);
    at->port = ntohs(address.sin_port);
    snprintf(at->address, sizeof at->address, "%s", ssh_message_global_request_address(message));
    listener_count++;
    ssh_message_global_request_reply_success(message, port == 0 ? at->port : 0);
  } else {
    return 1;
  }
  return 0;
}

/* Sends what a file has, as far as the window goes; -1 at its end. */
static int send_from(struct joint *one, int fd, int is_stderr, int *is_idle) {
  char buffer[chunk];
  uint32_t window = ssh_channel_window_size(one->channel);
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  if (fd < 0 || window == 0 || poll(&ready, 1, 0) < 1) return fd;
  *is_idle = 0;
  ssize_t count = read(fd, buffer, window < chunk ? window : chunk);
  if (count <= 0) return -1;
  if (is_stderr) ssh_channel_write_stderr(one->channel, buffer, count);
  else ssh_channel_write(one->channel, buffer, count);
  return fd;
}

/* Carries what is there in both directions; false when all is over. */
static int carry(struct joint *one, int *is_idle) {
  char buffer[chunk];
  int status;
  if (one->in < 0 && one->out < 0 && one->err < 0 && one->child == 0) return 1;
  struct pollfd room = {.fd = one->in, .events = POLLOUT};
  if (one->in >= 0 && poll(&room, 1, 0) > 0) {
    /* No more than a pipe takes at once. */
    int count = ssh_channel_read_nonblocking(one->channel, buffer, 4096, 0);
    if (count > 0) {
      *is_idle = 0;
      for (int at = 0, written; at < count; at += written)
        if ((written = write(one->in, buffer + at, count - at)) <= 0) break;
    } else if (ssh_channel_is_eof(one->channel)) {
      if (one->is_socket) shutdown(one->in, SHUT_WR);
      else if (one->term[0] == 0) close(one->in);
      one->in = -1;
    }
  }
  one->out = send_from(one, one->out, 0, is_idle);
  one->err = send_from(one, one->err, 1, is_idle);
  if (one->out >= 0 || one->err >= 0) return 1;
  if (!one->has_said_eof) one->has_said_eof = ssh_channel_send_eof(one->channel) == SSH_OK;
  if (one->is_socket && one->in >= 0) return 1;
  if (one->child > 0) {
    if (waitpid(one->child, &status, WNOHANG) == 0) return 1;
    ssh_channel_request_send_exit_status(one->channel, WEXITSTATUS(status));
  }
  ssh_channel_close(one->channel);
  return 0;
}

static void accept_forwarded(struct listener *at) {
  struct pollfd ready = {.fd = at->fd, .events = POLLIN};
  if (poll(&ready, 1, 0) < 1) return;
  int fd = accept4(at->fd, NULL, NULL, SOCK_CLOEXEC);
  ssh_channel channel = ssh_channel_new(session);
  int opened =
      ssh_channel_open_reverse_forward(channel, at->address, at->port, "127.0.0.1", 0);
  if (opened == SSH_OK) join_socket(channel, fd);
  else close(fd);
}

static void serve(void) {
  /* Before the key exchange: requests may come with its last message. */
  ssh_set_message_callback(session, on_message, NULL);
  check(ssh_handle_key_exchange(session) == SSH_OK, "key exchange");
  ssh_event event = ssh_event_new();
  ssh_event_add_session(event, session);
  int wait_ms = 0;
  while (ssh_event_dopoll(event, wait_ms) != SSH_ERROR && ssh_is_connected(session)) {
    int is_idle = 1;
    for (int at = 0; at < listener_count; at++) accept_forwarded(&listeners[at]);
    for (int at = 0; at < joint_count; at++)
      if (joints[at].channel != NULL && !carry(&joints[at], &is_idle)) joints[at].channel = NULL;
    wait_ms = is_idle ? 5 : 0;
  }
}

int main(int count, char **args) {
  if (count < 4) return 98;
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof address;
  uint64_t rekey_bytes = strtoull(args[3], NULL, 10);
  signal(SIGPIPE, SIG_IGN);
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 16) == 0, "listen");
  getsockname(fd, (struct sockaddr *)&address, &size);
  printf("port %d\n", ntohs(address.sin_port));
  fflush(stdout);
  check(ssh_pki_import_pubkey_file(args[2], &user) == SSH_OK, "key");
  for (;;) {
    int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    if (fork() != 0) {
      close(connection);
      continue;
    }
    close(fd);
    ssh_bind binding = ssh_bind_new();
    ssh_bind_options_set(binding, SSH_BIND_OPTIONS_HOSTKEY, args[1]);
    session = ssh_new();
    if (rekey_bytes > 0) ssh_options_set(session, SSH_OPTIONS_REKEY_DATA, &rekey_bytes);
    check(ssh_bind_accept_fd(binding, session, connection) == SSH_OK, "accept");
    serve();
    exit(0);
  }
}
