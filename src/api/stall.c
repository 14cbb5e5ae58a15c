/* An operation that does not move: who is to blame. While it stalls, this rank asks along the chain of waits
 * (mci_boot_ask); the end of the chain decides:
 *
 *   it has left the communicator         an error at once, on all ranks
 *   it, or a rank on the way, moves      no error: slow is not stuck
 *   it has not called the operation      at the limit the Timeout names it, on all ranks
 *   it does not answer                   shortly after the limit the Timeout says so
 *   all wait (a circle), or nobody does  shortly after the limit the Timeout names the link
 *
 * The verdict goes by way of the root, so that every rank reads the same text. Also here: what a rank tells of itself,
 * which the control thread asks for at any time and which therefore takes no lock. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/comm.h"
#include "base/net.h"

#define LOOK_NS 20000000u        /* between two looks at a stall */
#define VERDICT_NS 1000000000ull /* the root's flood takes longer: then this rank says it itself */
#define ANSWER_NS 2000000000ull  /* beyond the limit, for an answer */
#define GONE_TWICE 2u            /* what a rank sent last may still be on its way when it has left */

/* ---- what a rank tells ---- */

/* Without an idle waiter nobody takes the time of what moves: then the reader does, from one look to the next. */
static uint64_t moved_since(meshcclComm_t comm, const mci_engine_status* engine, uint64_t now) {
  uint64_t since_left = mci_ticks() - atomic_load_explicit(&comm->left_ticks, memory_order_relaxed);
  uint64_t left = now - MCI_MIN(now, mci_comm_ticks_ns(comm, since_left)), moved = MCI_MAX(left, engine->moved_ns);
  bool carried = atomic_load(&comm->callers) > 0 || atomic_load(&comm->async_pending) > 0;
  if (!engine->moves || !carried) return moved;
  if (comm->watched_events != engine->events || comm->watched_ns == 0) {
    comm->watched_events = engine->events;
    comm->watched_ns = now;
  }
  return MCI_MAX(moved, comm->watched_ns);
}

/* All but the time since something moved. */
static void fill(meshcclComm_t comm, mci_rank_status* out, mci_engine_status* engine_out) {
  mci_engine_status engine;
  mci_engine_read_status(comm->engine, &engine);
  *engine_out = engine;
  bool runs = engine.started != engine.finished;
  *out = (mci_rank_status){.rank = (int32_t)comm->rank,
                           .waits_for = -1,
                           .busy = runs || atomic_load(&comm->flushing_shown),
                           .coll = engine.coll,
                           .started = engine.started,
                           .finished = engine.finished,
                           .bytes = engine.bytes,
                           .step = engine.step,
                           .nsteps = engine.nsteps,
                           .sent_bytes = engine.bytes_sent,
                           .received_bytes = engine.bytes_received,
                           .operation = engine.last_collective,
                           .queued = (uint32_t)(engine.submitted - engine.started),
                           .calling = atomic_load(&comm->callers) > 0,
                           .pid = (int32_t)getpid(),
                           .npeers = engine.npeers};
  if (out->busy) {
    out->waits_for = engine.waits_for;
    out->waits_operation = runs ? engine.waits_operation : 0;
    memcpy(out->over, engine.over, sizeof out->over);
  }
  _Static_assert(sizeof out->peers == sizeof engine.peers, "the same in both layers");
  memcpy(out->peers, engine.peers, sizeof out->peers);
}

void mci_comm_status(void* self, mci_rank_status* out) {
  meshcclComm_t comm = self;
  mci_engine_status engine;
  /* While the caller is outside of calls nobody publishes: then the lock is free, or this goes without. */
  if (pthread_mutex_trylock(&comm->lock) == 0) {
    mci_engine_publish(comm->engine, mci_now_ns(), 0);
    pthread_mutex_unlock(&comm->lock);
  }
  fill(comm, out, &engine);
  uint64_t now = mci_now_ns(), moved = moved_since(comm, &engine, now);
  out->still_ns = now > moved ? now - moved : 0;
  mci_host_name(out->host, sizeof out->host);
}

/* ---- the verdict in words ---- */

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static void add_operation(meshcclComm_t comm, uint32_t operation, mci_str* text) {
  char what[160];
  mci_rank_status own;
  mci_engine_status engine;
  fill(comm, &own, &engine);
  mci_engine_describe(comm->engine, what, sizeof what);
  if (operation == 0) {
    mci_str_add(text, "what it is needed for");
  } else if (operation == own.waits_operation && what[0]) {
    mci_str_add(text, "operation %u (%s)", operation, what);
  } else {
    mci_str_add(text, "operation %u", operation);
  }
}

static void add_whereabouts(const mci_rank_status* s, mci_str* text) {
  if (s->queued > 0)
    mci_str_add(text, " and has %u operations that their streams have not come to", s->queued);
  else if (s->calling)
    mci_str_add(text, " and is in another call of the communicator");
  else
    mci_str_add(text, " and is outside of meshccl calls");
}

/* The end of the chain waits for nobody. */
static void add_end(meshcclComm_t comm, const mci_blame* blame, mci_str* text) {
  const mci_rank_status* s = &blame->status;
  bool reached = blame->operation != 0 && (int32_t)(s->operation - blame->operation) >= 0;
  if (reached && !s->busy) {
    mci_str_add(text, "rank %d has finished operation %u, but rank %d still lacks what it sent", blame->rank,
                blame->operation, blame->waiter);
  } else if (s->busy) {
    mci_str_add(text, "rank %d stands in operation %u, step %u of %u, and waits for no other rank", blame->rank,
                s->operation, s->step, s->nsteps);
    if (!s->calling) mci_str_add(text, "; it is outside of meshccl calls, and nobody carries its streams");
  } else {
    mci_str_add(text, "rank %d has not called ", blame->rank);
    add_operation(comm, blame->operation, text);
    if (s->operation == 0)
      mci_str_add(text, ": it has called no collective yet");
    else
      mci_str_add(text, ": it finished operation %u %.1f s ago", s->operation, seconds(s->still_ns));
    add_whereabouts(s, text);
  }
}

static void add_blame(meshcclComm_t comm, const mci_blame* blame, mci_str* text) {
  const mci_rank_status* s = &blame->status;
  switch (blame->kind) {
    case MCI_BLAME_GONE:
      mci_str_add(text, "rank %d has left %s while ", blame->rank, comm->name);
      add_operation(comm, blame->operation, text);
      mci_str_add(text, " needs it: rank %d waits for it; every rank must make the same calls", blame->waiter);
      break;
    case MCI_BLAME_END:
      add_end(comm, blame, text);
      break;
    case MCI_BLAME_STARTING:
      mci_str_add(text, "rank %d has joined, but its communicator is not ready yet", blame->rank);
      break;
    case MCI_BLAME_WAITS:
      if (s->waits_for == (int32_t)comm->rank)
        mci_str_add(text, "rank %u and rank %d wait for each other", comm->rank, blame->rank);
      else
        mci_str_add(text, "all ranks that answer wait for others");
      mci_str_add(text, "; rank %d waits for rank %d over %s in operation %u, step %u of %u", blame->rank, s->waits_for,
                  s->over, s->waits_operation, s->step, s->nsteps);
      break;
    default:
      mci_str_add(text,
                  "rank %d does not answer: its process is stopped or overloaded, or it is driven by its caller alone "
                  "and is outside of meshccl calls; rank %d waits for it, or for one that is reached through it",
                  blame->rank, blame->waiter);
      break;
  }
}

/* ---- the verdict ---- */

static void accuse(meshcclComm_t comm, const mci_blame* blame, uint64_t now, meshcclResult_t result) {
  mci_str text = {0};
  mci_str_add(&text, "%s: ", comm->name);
  if (result == meshcclTimeout)
    mci_str_add(&text, "no progress for %.1f s (MESHCCL_OP_TIMEOUT): ", seconds(comm->op_timeout_ns));
  add_blame(comm, blame, &text);
  if (result == meshcclTimeout) {
    mci_str_add(&text, "; ");
    mci_engine_explain(comm->engine, &text);
  }
  snprintf(comm->accused_text, sizeof comm->accused_text, "%s", text.text ? text.text : "no progress");
  mci_str_fini(&text);
  comm->accused_ns = now;
  comm->accused_rank = blame->rank;
  comm->accused_result = result;
  MCI_INFO("%s", comm->accused_text);
  mci_boot_accuse(comm->boot, blame->rank, result, comm->accused_text);
}

/* Who has not answered yet may just be slow: an answer names the cause, its absence only a suspect. Of a chain of waits the
 * rank next to its end knows the cause first; the others leave the verdict to it. */
static bool over_limit(meshcclComm_t comm, const mci_blame* blame, uint64_t still_ns) {
  bool open = blame->kind == MCI_BLAME_UNKNOWN || blame->kind == MCI_BLAME_WAITS;
  uint64_t grace = open ? ANSWER_NS : 0;
  return MCI_MIN(still_ns, blame->still_ns) >= comm->op_timeout_ns + grace;
}

/* False: nobody is waited for, so the engine's own limit holds. */
static bool judge(meshcclComm_t comm, uint64_t now, uint64_t still_ns) {
  mci_rank_status own;
  mci_engine_status engine;
  mci_blame blame;
  fill(comm, &own, &engine);
  if (own.waits_for < 0 || own.waits_for == (int32_t)comm->rank) return false;
  mci_boot_ask(comm->boot, own.waits_for, own.waits_operation, &blame);
  if (blame.kind == MCI_BLAME_UNKNOWN)
    blame = (mci_blame){
        .rank = own.waits_for, .waiter = own.rank, .operation = own.waits_operation, .still_ns = UINT64_MAX};
  bool flush_only = own.started == own.finished;
  if (blame.kind == MCI_BLAME_GONE && blame.confirmed >= GONE_TWICE && !flush_only)
    accuse(comm, &blame, now, meshcclRemoteError);
  else if (over_limit(comm, &blame, still_ns))
    accuse(comm, &blame, now, meshcclTimeout);
  return true;
}

bool mci_comm_stalled(void* self, uint64_t now, uint64_t still_ns) {
  meshcclComm_t comm = self;
  if (comm->nranks == 1) return false;
  if (comm->accused_ns) {
    if (now - comm->accused_ns > VERDICT_NS)
      mci_boot_report(comm->boot, comm->accused_rank, comm->accused_result, comm->accused_text);
    return true;
  }
  if (now - comm->stall_looked_ns < LOOK_NS) return true;
  comm->stall_looked_ns = now;
  return judge(comm, now, still_ns);
}
