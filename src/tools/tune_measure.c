/* Measures links between ranks with the calls that every program has: small messages back to back, and streams one way
 * and both ways. Teams take turns, round after round, so that a machine that slows down slows all alike; who has no
 * turn waits in a barrier. Called by tune.c on every rank. */
#include <stdlib.h>
#include <string.h>

#include "tools/tune.h"

#define SMALL 8         /* bytes */
#define PIECE (1 << 20) /* bytes of a message of a stream */
#define MAX_PIECES 64
#define REPEATS 100         /* bursts of one size in a round */
#define STREAM_NS 20000000u /* that a stream is to take, about */

#define TRY(call)                                          \
  do {                                                     \
    meshcclResult_t try_result_ = (call);                  \
    if (try_result_ != meshcclSuccess) return try_result_; \
  } while (0)

typedef struct {
  meshcclComm_t comm;
  int rank;
  char *out, *in; /* PIECE bytes each */
} player;

/* ---- who ---- */
static bool joined(const mci_topo* topo, uint32_t a, uint32_t b, uint32_t link_class) {
  return a != b && mci_topo_pair_class(topo, a, b) == link_class && mci_topo_adjacent(topo, a, b);
}

/* The first rank after `from`, round the end, that has a link of the class, and the other end. */
static bool find_pair(const mci_topo* topo, uint32_t link_class, uint32_t from, uint32_t* a, uint32_t* b) {
  uint32_t n = mci_topo_nranks(topo);
  for (uint32_t i = 0; i < n; i++) {
    *a = (from + i) % n;
    for (uint32_t k = 1; k < n; k++) {
      *b = (*a + k) % n;
      if (joined(topo, *a, *b, link_class)) return true;
    }
  }
  return false;
}

/* The pair, and on full graphs one more for each other rank of the two groups that share their ways out. */
static void fill_team(const mci_topo* topo, uint32_t a, uint32_t b, mci_tune_team* team) {
  team->a[0] = a;
  team->b[0] = b;
  team->npairs = 1;
  if (!mci_topo_is_full(topo) || team->link_class == 0) return;
  uint32_t level = team->link_class - 1, from = mci_topo_group(topo, level, a), to = mci_topo_group(topo, level, b);
  uint32_t most = MCI_MIN(mci_topo_group_size(topo, level, from), mci_topo_group_size(topo, level, to));
  for (uint32_t i = 0; i < most && i < MCI_TUNE_PAIRS; i++) {
    team->a[i] = mci_topo_group_rank(topo, level, from, i);
    team->b[i] = mci_topo_group_rank(topo, level, to, i);
    team->npairs = i + 1;
  }
}

static bool known(const mci_tune_team* teams, uint32_t n, const mci_tune_team* team) {
  for (uint32_t i = 0; i < n; i++) {
    if (teams[i].link_class != team->link_class) continue;
    if (teams[i].a[0] == team->a[0] && teams[i].b[0] == team->b[0]) return true;
    if (teams[i].a[0] == team->b[0] && teams[i].b[0] == team->a[0]) return true;
  }
  return false;
}

uint32_t mci_tune_teams(const mci_topo* topo, mci_tune_team teams[(MCI_MAX_LEVELS + 1) * MCI_TUNE_TEAMS]) {
  uint32_t count = 0, n = mci_topo_nranks(topo);
  for (uint32_t c = 0; c < mci_topo_nclasses(topo); c++) {
    for (uint32_t t = 0; t < MCI_TUNE_TEAMS; t++) {
      mci_tune_team team = {.link_class = c};
      uint32_t a, b;
      if (!find_pair(topo, c, (uint32_t)((uint64_t)t * n / MCI_TUNE_TEAMS), &a, &b)) break;
      fill_team(topo, a, b, &team);
      if (!known(teams, count, &team)) teams[count++] = team;
    }
  }
  return count;
}

/* ---- how ---- */
static double seconds(uint64_t since_ns) { return (double)(mci_now_ns() - since_ns) * 1e-9; }

static meshcclResult_t send(player* p, size_t bytes, int peer) {
  return meshcclSend(p->out, bytes, meshcclUint8, peer, p->comm, NULL);
}

static meshcclResult_t receive(player* p, size_t bytes, int peer) {
  return meshcclRecv(p->in, bytes, meshcclUint8, peer, p->comm, NULL);
}

/* `count` messages of a group: to the peer, from it, or both. */
static meshcclResult_t batch(player* p, int peer, size_t bytes, uint32_t count, bool out, bool in) {
  TRY(meshcclGroupStart());
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t i = 0; i < count && result == meshcclSuccess; i++) {
    if (out) result = send(p, bytes, peer);
    if (in && result == meshcclSuccess) result = receive(p, bytes, peer);
  }
  meshcclResult_t ended = meshcclGroupEnd();
  return result == meshcclSuccess ? ended : result;
}

/* There `count` small messages, back one. */
static meshcclResult_t burst(player* p, int peer, bool first, uint32_t count) {
  TRY(batch(p, peer, SMALL, count, first, !first));
  return first ? receive(p, SMALL, peer) : send(p, SMALL, peer);
}

/* Mean time of REPEATS bursts; the way back, half a turn of single messages, is not counted. */
static meshcclResult_t time_bursts(player* p, int peer, bool first, double* times) {
  double turn = 0;
  for (uint32_t i = 0; i < MCI_TUNE_BURSTS; i++) {
    TRY(burst(p, peer, first, 1)); /* both are there */
    uint64_t start = mci_now_ns();
    for (uint32_t r = 0; r < REPEATS; r++) TRY(burst(p, peer, first, 1u << i));
    double each = seconds(start) / REPEATS;
    if (i == 0) turn = each;
    times[i] = MCI_MAX(each - turn / 2, 0.0);
  }
  return meshcclSuccess;
}

/* Bytes per second and direction. The first of the pair finds out how many pieces take long enough, and tells. */
static meshcclResult_t time_stream(player* p, int peer, bool first, bool both, double* rate) {
  uint64_t pieces = 1, start = mci_now_ns();
  TRY(batch(p, peer, PIECE, 1, first || both, !first || both));
  TRY(burst(p, peer, first, 1));
  pieces = STREAM_NS / MCI_MAX(mci_now_ns() - start, UINT64_C(1));
  pieces = MCI_MIN(MCI_MAX(pieces, UINT64_C(1)), (uint64_t)MAX_PIECES);
  if (first) {
    memcpy(p->out, &pieces, sizeof pieces);
    TRY(send(p, sizeof pieces, peer));
  } else {
    TRY(receive(p, sizeof pieces, peer));
    memcpy(&pieces, p->in, sizeof pieces);
  }
  TRY(burst(p, peer, first, 1));
  start = mci_now_ns();
  TRY(burst(p, peer, first, 1));
  double turn = seconds(start);
  start = mci_now_ns();
  TRY(batch(p, peer, PIECE, (uint32_t)pieces, first || both, !first || both));
  TRY(burst(p, peer, first, 1));
  double time = seconds(start);
  *rate = (double)(pieces * PIECE) / MCI_MAX(time - MCI_MIN(turn, time / 2), 1e-9);
  return meshcclSuccess;
}

/* One turn of a team; the samples of its first ranks. */
static meshcclResult_t play(player* p, const mci_tune_team* team, mci_tune_result* sample) {
  memset(sample, 0, sizeof *sample);
  for (int kind = 0; kind < 3; kind++) {
    TRY(meshcclBarrier(p->comm, NULL));
    for (uint32_t i = 0; i < (kind == 0 ? 1 : team->npairs); i++) {
      bool first = (uint32_t)p->rank == team->a[i], second = (uint32_t)p->rank == team->b[i];
      if (!first && !second) continue;
      int peer = (int)(first ? team->b[i] : team->a[i]);
      if (kind == 0) TRY(time_bursts(p, peer, first, sample->burst));
      if (kind == 1) TRY(time_stream(p, peer, first, false, &sample->one_way));
      if (kind == 2) TRY(time_stream(p, peer, first, true, &sample->both_ways));
      if (!first) memset(sample, 0, sizeof *sample);
      break;
    }
  }
  return meshcclSuccess;
}

/* ---- all of it ---- */
static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

enum { FIGURES = sizeof(mci_tune_result) / sizeof(double) };

/* Samples lie by round, team and figure. */
static meshcclResult_t medians(const double* samples, uint32_t nteams, uint32_t rounds, double* out) {
  uint32_t n = nteams * FIGURES;
  double* column = mci_alloc(rounds * sizeof *column);
  if (!column) return mci_oom(rounds * sizeof *column);
  for (uint32_t k = 0; k < n; k++) {
    for (uint32_t r = 0; r < rounds; r++) column[r] = samples[(size_t)r * n + k];
    qsort(column, rounds, sizeof *column, ascending);
    out[k] = column[rounds / 2];
  }
  mci_free(column);
  return meshcclSuccess;
}

static meshcclResult_t run_rounds(player* p, const mci_tune_team* teams, uint32_t nteams, uint32_t rounds,
                                  mci_tune_result* samples) {
  mci_tune_result first; /* connections are made in a round that does not count */
  for (uint32_t t = 0; t < nteams; t++) TRY(play(p, &teams[t], &first));
  for (uint32_t r = 0; r < rounds; r++)
    for (uint32_t t = 0; t < nteams; t++) TRY(play(p, &teams[t], &samples[r * nteams + t]));
  return meshcclSuccess;
}

/* Each figure of a pair is known to its first rank and 0 elsewhere: the sum over ranks is the team's. */
static meshcclResult_t share(player* p, const mci_tune_result* samples, uint32_t nteams, uint32_t rounds,
                             mci_tune_result* results) {
  size_t count = (size_t)nteams * FIGURES;
  double* own = mci_alloc(count * sizeof *own);
  if (!own) return mci_oom(count * sizeof *own);
  meshcclResult_t result = medians((const double*)samples, nteams, rounds, own);
  if (result == meshcclSuccess)
    result = meshcclAllReduce(own, results, count, meshcclFloat64, meshcclSum, p->comm, NULL);
  mci_free(own);
  return result;
}

meshcclResult_t mci_tune_measure(meshcclComm_t comm, const mci_tune_team* teams, uint32_t nteams, uint32_t rounds,
                                 mci_tune_result* results) {
  player p = {.comm = comm, .out = mci_alloc(PIECE), .in = mci_alloc(PIECE)};
  mci_tune_result* samples = mci_alloc((size_t)rounds * nteams * sizeof *samples);
  meshcclResult_t result = p.out && p.in && samples ? meshcclCommUserRank(comm, &p.rank) : mci_oom(2 * PIECE);
  if (result == meshcclSuccess) result = run_rounds(&p, teams, nteams, rounds, samples);
  if (result == meshcclSuccess) result = share(&p, samples, nteams, rounds, results);
  mci_free(samples);
  mci_free(p.in);
  mci_free(p.out);
  return result;
}

/* The straight line through the times of bursts: a message more costs its slope. A single one is sent, travels and is
 * received in turn, where those of a burst overlap: more than half of its time cannot be cost. */
void mci_tune_fit(const mci_tune_result* result, double* delay_s, double* cost_s) {
  double n = MCI_TUNE_BURSTS, x = 0, y = 0, xx = 0, xy = 0;
  for (uint32_t i = 0; i < MCI_TUNE_BURSTS; i++) {
    double count = (double)(1u << i);
    x += count;
    y += result->burst[i];
    xx += count * count;
    xy += count * result->burst[i];
  }
  double slope = (n * xy - x * y) / (n * xx - x * x);
  double wire = result->both_ways > 0 ? SMALL / result->both_ways : 0;
  *cost_s = MCI_MIN(MCI_MAX(slope - wire, 0.0), result->burst[0] / 2);
  *delay_s = result->burst[0] - *cost_s;
}
