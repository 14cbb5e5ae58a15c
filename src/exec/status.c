/* What an engine tells other threads of itself: counters that are always current, and details (who is waited for, step,
 * bytes per peer) that waiters publish when they have nothing else to do, so that a message costs nothing more. Readers
 * take no lock: the details stand behind a version that is odd while they are being written. */
#include <string.h>

#include "exec/engine.h"

#define READ_TRIES 1000

/* ---- who is waited for ---- */

static const mci_peer* peer_of_channels(const mci_op* op, mci_engine_detail* out) {
  const mci_peer* found = NULL;
  const mci_run* run = op->run;
  uint64_t least = UINT64_MAX;
  for (uint32_t c = 0; c < run->program->nchannels; c++) {
    const mci_chan* chan = &run->channels[c];
    const mci_peer* peer = mci_chan_waits_for(chan);
    bool better = peer ? !found || chan->steps_done < least : !found && chan->steps_done < least;
    if (chan->phase == MCI_CHAN_DONE || !better) continue;
    least = chan->steps_done;
    found = peer;
    out->step = (uint32_t)chan->steps_done + 1;
    out->nsteps = (uint32_t)mci_channel_steps(chan->channel);
  }
  return found;
}

/* Who does not take what it is sent, or is not connected yet. */
static const mci_peer* peer_of_lanes(const mci_engine* engine) {
  for (uint32_t i = 0; i < engine->lane_slots; i++) {
    const mci_lane* lane = engine->lanes[i];
    if (lane && (lane->references || lane->head != lane->tail)) return lane->peer;
  }
  for (uint32_t i = 0; i < engine->npeers && engine->unheard; i++)
    if (engine->peers[i]->ep && !engine->peers[i]->heard) return engine->peers[i];
  return NULL;
}

/* Of the operations that run, the first that lacks a message; else whoever does not take what was sent. */
static void add_wait(const mci_engine* engine, mci_engine_detail* out) {
  const mci_op* op = engine->active;
  const mci_peer* peer = NULL;
  out->waits_for = -1;
  for (; op; op = op->next)
    if ((peer = peer_of_channels(op, out))) break;
  if (!op) op = engine->active;
  if (op) {
    out->coll = (uint32_t)op->run->program->coll;
    out->bytes = op->count * op->type_size;
    out->waits_operation = op->sequence;
  }
  if (!peer) peer = peer_of_lanes(engine);
  if (!peer) return;
  out->waits_for = (int32_t)peer->rank;
  const char* over =
      peer->ep ? engine->options.transports[engine->ports[peer->transport].index]->name : "not connected";
  strncpy(out->over, over, sizeof out->over - 1);
}

/* ---- bytes per peer ---- */

static uint64_t traffic(const mci_engine_peer* peer) { return peer->bytes_sent + peer->bytes_received; }

static void add_peers(const mci_engine* engine, mci_engine_detail* out) {
  for (uint32_t i = 0; i < engine->npeers; i++) {
    mci_engine_peer one = {.rank = (int32_t)engine->peers[i]->rank,
                           .bytes_sent = engine->peers[i]->bytes_sent,
                           .bytes_received = engine->peers[i]->bytes_received};
    uint32_t at = out->npeers;
    if (at == MCI_ENGINE_STATUS_PEERS && traffic(&out->peers[at - 1]) >= traffic(&one)) continue;
    if (at == MCI_ENGINE_STATUS_PEERS) {
      at--;
    } else {
      out->npeers++;
    }
    for (; at > 0 && traffic(&out->peers[at - 1]) < traffic(&one); at--) out->peers[at] = out->peers[at - 1];
    out->peers[at] = one;
  }
}

/* ---- writer ---- */

void mci_engine_publish(mci_engine* engine, uint64_t now_ns, uint64_t least_ns) {
  mci_published* published = &engine->published;
  uint64_t events = mci_read(&engine->events);
  if (MCI_LIKELY(now_ns - published->at_ns < least_ns || (events == published->events && published->at_ns))) return;
  mci_engine_detail detail = {.events = events, .started = mci_read(&engine->started)};
  detail.since_ns = engine->events_seen == events ? engine->events_since_ns : now_ns;
  add_wait(engine, &detail);
  add_peers(engine, &detail);
  uint64_t words[MCI_COUNT(published->words)], version = mci_read(&published->version);
  memcpy(words, &detail, sizeof words);
  atomic_store_explicit(&published->version, version + 1, memory_order_relaxed);
  for (size_t i = 0; i < MCI_COUNT(words); i++)
    atomic_store_explicit(&published->words[i], words[i], memory_order_release);
  atomic_store_explicit(&published->version, version + 2, memory_order_release);
  published->events = events;
  published->at_ns = now_ns;
}

/* ---- reader ---- */

/* False: the writer was in the way each time. */
static bool read_detail(const mci_published* published, mci_engine_detail* out) {
  for (int i = 0; i < READ_TRIES; i++) {
    uint64_t words[MCI_COUNT(published->words)];
    uint64_t before = atomic_load_explicit(&published->version, memory_order_acquire);
    for (size_t k = 0; k < MCI_COUNT(words); k++)
      words[k] = atomic_load_explicit(&published->words[k], memory_order_acquire);
    if (before % 2 == 0 && atomic_load_explicit(&published->version, memory_order_relaxed) == before) {
      memcpy(out, words, sizeof *out);
      return true;
    }
    mci_cpu_relax();
  }
  return false;
}

void mci_engine_read_status(const mci_engine* engine, mci_engine_status* out) {
  mci_engine_detail detail = {.waits_for = -1};
  if (!read_detail(&engine->published, &detail)) detail = (mci_engine_detail){.waits_for = -1};
  *out = (mci_engine_status){.finished = mci_read(&engine->finished),
                             .events = mci_read(&engine->events),
                             .bytes_sent = mci_read(&engine->bytes_sent),
                             .bytes_received = mci_read(&engine->bytes_received),
                             .moved_ns = detail.since_ns,
                             .waits_for = -1,
                             .npeers = detail.npeers};
  /* Read after `finished`, so that never more seem to have ended than begun. */
  out->started = MCI_MAX(mci_read(&engine->started), out->finished);
  out->submitted = MCI_MAX(mci_read(&engine->submitted), out->started);
  out->last_collective = atomic_load_explicit(&engine->last_collective, memory_order_relaxed);
  out->moves = out->events != detail.events;
  memcpy(out->peers, detail.peers, sizeof out->peers);
  if (detail.started != out->started) return;
  out->waits_for = detail.waits_for;
  out->waits_operation = detail.waits_operation;
  out->coll = detail.coll;
  out->bytes = detail.bytes;
  out->step = detail.step;
  out->nsteps = detail.nsteps;
  memcpy(out->over, detail.over, sizeof out->over);
}

void mci_engine_describe(const mci_engine* engine, char* out, size_t size) {
  out[0] = 0;
  const mci_op* op = engine->active;
  while (op && op->point_to_point && op->next) op = op->next;
  if (op) op->describe(op, out, size);
}
