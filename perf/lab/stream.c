/* What a bare TCP stream gets out of a link: the rate that shares of the bound in perf/lab refer to.
 *   lab_stream serve FILE          listens, writes its port to FILE, serves one client and ends
 *   lab_stream ask ADDRESS PORT SECONDS
 * prints "one_way BYTES_PER_S both_ways BYTES_PER_S round_trip_us T". Rates are what a receiver reads in SECONDS after a
 * start of half a second, in which token buckets run empty; both_ways is the slower of two streams that cross. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536
#define START 0.5
#define PINGS 200

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char* what) {
  perror(what);
  exit(1);
}

/* Both directions at once, each if wanted, until `end`; returns bytes per second read after the start. */
static double flow(int fd, int send_too, int read_too, double seconds) {
  static char buffer[CHUNK];
  double begin = now() + START, end = begin + seconds, got = 0, t;
  while ((t = now()) < end) {
    struct pollfd wait = {.fd = fd, .events = (short)((send_too ? POLLOUT : 0) | (read_too ? POLLIN : 0))};
    if (poll(&wait, 1, 10) <= 0) continue;
    if (wait.revents & POLLOUT && send(fd, buffer, CHUNK, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) wait.revents &= ~POLLOUT;
    if (!(wait.revents & POLLIN)) continue;
    ssize_t n = recv(fd, buffer, CHUNK, MSG_DONTWAIT);
    if (n == 0) break;
    if (n > 0 && t >= begin) got += (double)n;
  }
  return got / (end - begin);
}

static double* sorted_pings(int fd, double times[PINGS]) {
  char byte = 1;
  for (int i = 0; i < PINGS; i++) {
    double begin = now();
    if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, MSG_WAITALL) != 1) die("ping");
    double t = now() - begin;
    int at = i;
    for (; at > 0 && times[at - 1] > t; at--) times[at] = times[at - 1];
    times[at] = t;
  }
  return times;
}

static void echo(int fd) {
  char byte;
  for (int i = 0; i < PINGS; i++)
    if (recv(fd, &byte, 1, MSG_WAITALL) != 1 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1) die("echo");
}

static void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int next(int listener) {
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) die("accept");
  no_delay(fd);
  return fd;
}

/* One connection per question, so that none meets what another left in the queues: round trips, one way, both ways. */
static void serve(const char* file) {
  struct sockaddr_in any = {.sin_family = AF_INET};
  socklen_t size = sizeof any;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (listener < 0 || bind(listener, (struct sockaddr*)&any, sizeof any) != 0 || listen(listener, 4) != 0 ||
      getsockname(listener, (struct sockaddr*)&any, &size) != 0)
    die("listen");
  char name[4096];
  snprintf(name, sizeof name, "%s.new", file);
  FILE* out = fopen(name, "w");
  if (!out || fprintf(out, "%d\n", ntohs(any.sin_port)) < 0 || fclose(out) != 0 || rename(name, file) != 0) die(file);
  for (int question = 0; question < 3; question++) {
    double seconds = 0, rate = 0;
    int fd = next(listener);
    if (question == 0) {
      echo(fd);
    } else {
      if (recv(fd, &seconds, sizeof seconds, MSG_WAITALL) != sizeof seconds) die("question");
      rate = flow(fd, question == 2, 1, seconds);
    }
    close(fd);
    fd = next(listener);
    if (send(fd, &rate, sizeof rate, MSG_NOSIGNAL) != sizeof rate) die("answer");
    close(fd);
  }
}

static int dial(const char* address, const char* port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(fd, (struct sockaddr*)&to, sizeof to) != 0)
    die(address);
  no_delay(fd);
  return fd;
}

static double answer(const char* address, const char* port) {
  double rate = 0;
  int fd = dial(address, port);
  if (recv(fd, &rate, sizeof rate, MSG_WAITALL) != sizeof rate) die("answer");
  close(fd);
  return rate;
}

static double ask_rate(const char* address, const char* port, int both, double seconds) {
  int fd = dial(address, port);
  if (send(fd, &seconds, sizeof seconds, MSG_NOSIGNAL) != sizeof seconds) die("question");
  double back = flow(fd, 1, both, seconds);
  close(fd);
  double there = answer(address, port);
  return both && back < there ? back : there;
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    serve(argv[2]);
    return 0;
  }
  if (argc != 5 || strcmp(argv[1], "ask") != 0) {
    fprintf(stderr, "usage: lab_stream serve FILE | ask ADDRESS PORT SECONDS\n");
    return 2;
  }
  double times[PINGS], seconds = atof(argv[4]);
  int fd = dial(argv[2], argv[3]);
  double trip = sorted_pings(fd, times)[PINGS / 2];
  close(fd);
  answer(argv[2], argv[3]);
  double one = ask_rate(argv[2], argv[3], 0, seconds), both = ask_rate(argv[2], argv[3], 1, seconds);
  printf("one_way %.0f both_ways %.0f round_trip_us %.1f\n", one, both, 1e6 * trip);
  return 0;
}
