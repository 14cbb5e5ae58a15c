/* One question and one answer over TCP, for tests of the hosts that hosts.sh makes.
 *
 *   tcp_probe serve FILE            listens on a free port of all addresses, writes the port into FILE, echoes for ever
 *   tcp_probe ask ADDRESS PORT MS   connects, asks, waits for the answer
 *   tcp_probe hold ADDRESS PORT MS FILE   as ask; then makes FILE, waits until it is gone, and asks again
 *
 * Exit status of ask and hold: 0 answered, 3 silence for MS milliseconds, 4 refused or reset, 5 no way there. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWERED = 0, WRONG = 2, SILENT = 3, RESET = 4, NO_WAY = 5 };

static int serve(const char* file) {
  struct sockaddr_in6 any = {.sin6_family = AF_INET6};
  socklen_t length = sizeof any;
  int listener = socket(AF_INET6, SOCK_STREAM, 0);
  char next[300];
  snprintf(next, sizeof next, "%s.next", file);
  if (bind(listener, (struct sockaddr*)&any, sizeof any) != 0 || listen(listener, 8) != 0 ||
      getsockname(listener, (struct sockaddr*)&any, &length) != 0)
    return WRONG;
  FILE* out = fopen(next, "w");
  if (!out || fprintf(out, "%d\n", ntohs(any.sin6_port)) < 0 || fclose(out) != 0 || rename(next, file) != 0)
    return WRONG;
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    if (fork() == 0) {
      char byte;
      while (read(fd, &byte, 1) == 1 && send(fd, &byte, 1, MSG_NOSIGNAL) == 1) {
      }
      _exit(0);
    }
    close(fd);
  }
}

static int verdict(void) {
  if (errno == ECONNREFUSED || errno == ECONNRESET || errno == EPIPE || errno == ECONNABORTED) return RESET;
  if (errno == ENETUNREACH || errno == EHOSTUNREACH || errno == EADDRNOTAVAIL) return NO_WAY;
  return errno == ETIMEDOUT ? SILENT : WRONG;
}

static int await(int fd, short events, int ms) {
  struct pollfd p = {.fd = fd, .events = events};
  return poll(&p, 1, ms) > 0 ? ANSWERED : SILENT;
}

static int dial(const char* address, const char* port, int ms, int* fd_out) {
  struct addrinfo *info, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
  if (getaddrinfo(address, port, &hints, &info) != 0) return WRONG;
  int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), error = 0;
  socklen_t length = sizeof error;
  int result = connect(fd, info->ai_addr, info->ai_addrlen);
  freeaddrinfo(info);
  if (result != 0 && errno != EINPROGRESS) return verdict();
  if (await(fd, POLLOUT, ms) != ANSWERED) return SILENT;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  errno = error;
  *fd_out = fd;
  return error ? verdict() : ANSWERED;
}

static int ask(int fd, int ms) {
  char question = 'q', answer = 0;
  if (send(fd, &question, 1, MSG_NOSIGNAL) != 1) return verdict();
  if (await(fd, POLLIN, ms) != ANSWERED) return SILENT;
  ssize_t n = recv(fd, &answer, 1, 0);
  if (n < 0) return verdict();
  return n == 0 ? RESET : answer == question ? ANSWERED : WRONG;
}

static void wait_for_removal(const char* file) {
  fclose(fopen(file, "w"));
  while (access(file, F_OK) == 0) nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) return serve(argv[2]);
  int hold = argc == 6 && strcmp(argv[1], "hold") == 0, fd = -1;
  if (!hold && (argc != 5 || strcmp(argv[1], "ask") != 0)) return WRONG;
  int ms = atoi(argv[4]), status = dial(argv[2], argv[3], ms, &fd);
  if (status == ANSWERED) status = ask(fd, ms);
  if (status != ANSWERED || !hold) return status;
  wait_for_removal(argv[5]);
  return ask(fd, ms);
}
