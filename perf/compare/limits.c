/* What the machine itself can do, in the same lines as the libraries print: the least time of an all-reduce and of a
 * copy on this host.
 *
 *   compare_limits --np N [--over shm|tcp] [--min BYTES] [--max BYTES] [--factor N] [--seconds T] [--round N]
 *
 *   limit,fused  all_reduce      d = e = a + b over the vector, once for each two ranks: two reads and both results
 *                                written in one pass
 *   limit,sum    reduce_scatter  d = a + b over the vector, once for each two ranks
 *   limit,copy   all_gather      the vector copied once for each rank
 *                broadcast       the vector copied once for each rank but the root
 *
 * As many threads as there are ranks, at most one per processor, have an equal share of the vector each.
 *
 * --over tcp, for two ranks on two processors only: what a bare socket over loopback takes, whose ends never sleep.
 *
 *   limit,socket broadcast       the vector one way, until it is there
 *                all_gather      half of it both ways at once; reduce_scatter alike
 *                all_reduce      all of it both ways at once, above 32 KiB twice half of it; nothing is added
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_RUNS = 1000, FEWEST_RUNS = 5, MOST_THREADS = 64, ONE_EXCHANGE = 32768, MOST_WRITTEN = 262144 };

typedef enum { FUSED, SUM, GATHER, SPREAD, NUM_KINDS } work_kind;

typedef struct {
  int np, threads, round;
  size_t min, max, factor;
  double seconds;
  float *a, *b, *out_a, *out_b;
  bool sockets;
  int fds[2]; /* the ends of a connection over loopback */
} limits;

typedef struct {
  const limits* limits;
  work_kind kind;
  size_t from, to; /* elements */
  size_t all;      /* bytes of the vector */
  int cpu;
  unsigned turn;
} share;

static _Alignas(64) atomic_uint arrived;
static _Alignas(64) atomic_uint passed;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static void meet(int threads) {
  unsigned turn = atomic_load(&passed);
  if (atomic_fetch_add(&arrived, 1) + 1 == (unsigned)threads) {
    atomic_store(&arrived, 0);
    atomic_store(&passed, turn + 1);
  }
  while (atomic_load_explicit(&passed, memory_order_acquire) == turn) continue;
}

/* The widest vectors that the processor has. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("default", "avx2", "avx512f")))
#endif
static void
fuse(const limits* l, size_t from, size_t to) {
  const float* restrict a = l->a, * restrict b = l->b;
  float* restrict x = l->out_a, * restrict y = l->out_b;
  for (size_t i = from; i < to; i++) x[i] = y[i] = a[i] + b[i];
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("default", "avx2", "avx512f")))
#endif
static void
sum(const limits* l, size_t from, size_t to) {
  const float* restrict a = l->a, * restrict b = l->b;
  float* restrict x = l->out_a;
  for (size_t i = from; i < to; i++) x[i] = a[i] + b[i];
}

/* ---- over tcp ---- */

static void give_up(const char* what) {
  perror(what);
  exit(2);
}

static void join_by_socket(limits* l) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  l->fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr*)&at, sizeof at) != 0 || listen(listener, 1) != 0) give_up("listen");
  if (getsockname(listener, (struct sockaddr*)&at, &size) != 0) give_up("getsockname");
  if (connect(l->fds[0], (struct sockaddr*)&at, sizeof at) != 0) give_up("connect");
  l->fds[1] = accept(listener, NULL, NULL);
  close(listener);
  for (int i = 0; i < 2; i++) {
    if (setsockopt(l->fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) give_up("TCP_NODELAY");
    setsockopt(l->fds[i], IPPROTO_TCP, TCP_CONGESTION, "reno", 4); /* paces nothing; the system's choice may */
  }
}

/* Bytes that the socket took or gave. */
static size_t moved(ssize_t n) {
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) give_up("socket");
  return n > 0 ? (size_t)n : 0;
}

/* Sends and receives so many bytes at once, in turn. */
static void exchange(const share* s, size_t out, size_t in) {
  const limits* l = s->limits;
  const char* from = (const char*)(s->cpu ? l->b : l->a);
  char* to = (char*)(s->cpu ? l->out_b : l->out_a);
  int fd = l->fds[s->cpu];
  for (size_t sent = 0, got = 0; sent < out || got < in;) {
    size_t part = out - sent < MOST_WRITTEN ? out - sent : MOST_WRITTEN;
    if (part > 0) sent += moved(send(fd, from + sent, part, MSG_DONTWAIT | MSG_NOSIGNAL));
    if (got < in) got += moved(recv(fd, to + got, in - got, MSG_DONTWAIT));
  }
}

static void work_by_socket(const share* s, size_t bytes) {
  bool whole = s->kind == FUSED && bytes <= ONE_EXCHANGE;
  if (s->kind == SPREAD) {
    exchange(s, s->cpu ? 0 : bytes, s->cpu ? bytes : 0);
    return;
  }
  exchange(s, whole ? bytes : bytes / 2, whole ? bytes : bytes / 2);
  if (s->kind == FUSED && !whole) exchange(s, bytes / 2, bytes / 2);
}

static void work(const share* s) {
  const limits* l = s->limits;
  if (l->sockets) {
    work_by_socket(s, s->all);
    return;
  }
  size_t bytes = (s->to - s->from) * sizeof(float);
  int times = s->kind == FUSED || s->kind == SUM ? (l->np + 1) / 2 : s->kind == GATHER ? l->np : l->np - 1;
  for (int i = 0; i < times; i++) {
    if (s->kind == FUSED) {
      fuse(l, s->from, s->to);
    } else if (s->kind == SUM) {
      sum(l, s->from, s->to);
    } else {
      memcpy((i % 2 ? l->out_a : l->out_b) + s->from, l->a + s->from, bytes);
    }
  }
}

typedef struct {
  share share;
  double times[MOST_RUNS];
  int runs;
} worker;

static atomic_bool go_on;

static void* run(void* arg) {
  worker* w = arg;
  const limits* l = w->share.limits;
  pin(w->share.cpu);
  double used = 0;
  for (w->runs = 0; w->runs < MOST_RUNS; w->runs++) {
    if (w->share.cpu == 0) atomic_store(&go_on, used < l->seconds || w->runs < FEWEST_RUNS);
    meet(l->threads);
    if (!atomic_load(&go_on)) break;
    double start = now();
    work(&w->share);
    meet(l->threads);
    used += w->times[w->runs] = now() - start;
  }
  return NULL;
}

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void print(const limits* l, const char* name, const char* op, size_t bytes, double* times, int runs) {
  qsort(times, (size_t)runs, sizeof *times, ascending);
  printf("%d,limit,%s,%s,%d,%zu,%.3f,%.3f,%d,0\n", l->round, name, op, l->np, bytes, times[runs / 2] * 1e6,
         times[0] * 1e6, runs);
  fflush(stdout);
}

static void measure(const limits* l, work_kind kind, size_t bytes) {
  static worker workers[MOST_THREADS];
  pthread_t threads[MOST_THREADS];
  size_t count = bytes / sizeof(float), n = (size_t)l->threads;
  for (size_t t = 0; t < n; t++) {
    share s = {
        .limits = l, .kind = kind, .from = count * t / n, .to = count * (t + 1) / n, .all = bytes, .cpu = (int)t};
    workers[t].share = s;
    if (pthread_create(&threads[t], NULL, run, &workers[t]) != 0) exit(2);
  }
  for (size_t t = 0; t < n; t++) pthread_join(threads[t], NULL);
  static const char* const ops[NUM_KINDS] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast"};
  static const char* const names[NUM_KINDS] = {"fused", "sum", "copy", "copy"};
  const char* name = l->sockets ? "socket" : names[kind];
  print(l, name, ops[kind], bytes, workers[0].times, workers[0].runs);
  if (kind == FUSED) print(l, name, "all_reduce_in_place", bytes, workers[0].times, workers[0].runs);
}

static void read_options(limits* l, int argc, char** argv) {
  static const struct option known[] = {{"np", 1, NULL, 'p'},     {"min", 1, NULL, 'b'},     {"max", 1, NULL, 'e'},
                                        {"factor", 1, NULL, 'f'}, {"seconds", 1, NULL, 's'}, {"round", 1, NULL, 'r'},
                                        {"over", 1, NULL, 'o'},   {NULL, 0, NULL, 0}};
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (option) {
      case 'p':
        l->np = atoi(optarg);
        break;
      case 'o':
        l->sockets = strcmp(optarg, "tcp") == 0;
        break;
      case 'b':
        l->min = strtoull(optarg, NULL, 10);
        break;
      case 'e':
        l->max = strtoull(optarg, NULL, 10);
        break;
      case 'f':
        l->factor = strtoull(optarg, NULL, 10);
        break;
      case 's':
        l->seconds = atof(optarg);
        break;
      case 'r':
        l->round = atoi(optarg);
        break;
      default:
        exit(2);
    }
  }
  if (l->np < 1 || l->min < sizeof(float) || l->factor < 2) {
    fprintf(stderr, "needs --np N, --min of at least 4 and --factor of at least 2\n");
    exit(2);
  }
}

int main(int argc, char** argv) {
  limits l = {.min = 8, .max = 256u << 20, .factor = 4, .seconds = 0.3, .round = 1};
  read_options(&l, argc, argv);
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  l.threads = l.np < cpus ? l.np : (int)cpus;
  if (l.threads > MOST_THREADS) l.threads = MOST_THREADS;
  if (l.sockets && (l.np != 2 || l.threads != 2)) return 0;
  if (l.sockets) join_by_socket(&l);
  float** vectors[] = {&l.a, &l.b, &l.out_a, &l.out_b};
  for (int v = 0; v < 4; v++) {
    *vectors[v] = aligned_alloc(4096, (l.max + 4095) & ~(size_t)4095);
    if (!*vectors[v]) {
      fprintf(stderr, "no memory for four vectors of %zu bytes; a smaller --max helps\n", l.max);
      return 2;
    }
    memset(*vectors[v], 0, l.max);
  }
  for (size_t bytes = l.min; bytes <= l.max; bytes *= l.factor) {
    for (int kind = 0; kind < NUM_KINDS; kind++) measure(&l, (work_kind)kind, bytes);
  }
  for (int v = 0; v < 4; v++) free(*vectors[v]);
  for (int i = 0; l.sockets && i < 2; i++) close(l.fds[i]);
  return 0;
}
