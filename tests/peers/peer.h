/* What the programs in C have in common. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { chunk = 32768 };

/* What the library says of its last failure. */
static const char *last_error(void);

static inline void check(int ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "%s: %s\n", what, last_error());
  exit(99);
}

static inline void write_all(int fd, const void *data, size_t length) {
  for (const char *at = data; length > 0;) {
    ssize_t count = write(fd, at, length);
    check(count > 0, "write");
    at += count;
    length -= count;
  }
}

/* Reads a file to its end. */
static inline char *slurp(int fd, size_t *length) {
  size_t room = 1 << 16;
  char *data = malloc(room);
  *length = 0;
  for (ssize_t count; (count = read(fd, data + *length, room - *length)) > 0;) {
    *length += count;
    if (*length == room) data = realloc(data, room *= 2);
  }
  return data;
}

/* The path of a name in a folder; the last eight stay. */
static inline const char *in(const char *folder, const char *name) {
  static char paths[8][500];
  static int next;
  char *path = paths[next++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

/* Connects to a port of this machine. */
static inline int connect_here(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
  return fd;
}

/* Prints a line of the case `ten`. */
static inline void print_session(int number, int status, const char *output, size_t length) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size;
  EVP_Digest(output, length, digest, &size, EVP_sha256(), NULL);
  printf("%d %d ", number, status);
  for (unsigned int at = 0; at < size; at++) printf("%02x", digest[at]);
  puts("");
}
