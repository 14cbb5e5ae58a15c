/* Who waits for whom. A rank whose operation stalls asks the rank that it waits for; that one answers from its control
 * thread, whatever its caller does, and asks on when it waits itself. The end of the chain is told back along it:
 *
 *   rank 0 --ASK--> rank 3 --ASK--> rank 5         5 has not called: it is what all wait for
 *          <-WAITS-                                (at once: 3 is alive and waits for 5)
 *          <--END---        <--END--
 *
 * Every rank has one question of its own, asked at most once per second whoever caused it, and tells its answer to
 * those who asked meanwhile (a bounded list: whoever found no place asks again). So a chain of n ranks costs n
 * questions a second, and in a circle nobody has an end to tell. When a question has no answer, the ranks on its way
 * through the tree are asked, too: the first of them that is silent is the cause, not who is behind it. A place on
 * the way that finds the
 * rank gone answers in its stead. The same statuses are collected for observers (observe.c): each rank answers by
 * itself along the routes, so that a silent rank hides nobody but those whose only way leads through it.
 *
 * Nothing here waits. All is called under the tree's lock unless it begins with mci_boot. */
#include <stdio.h>
#include <string.h>

#include "base/globals.h"
#include "boot/control.h"

#define ASK_NS 1000000000ull    /* between two questions */
#define SILENT_NS 2000000000ull /* a question without an answer */
#define LAPSED_NS 4000000000ull /* not asked for so long: a stall of its own */
#define FRESH_NS 1500000000ull  /* so long an answer is passed on */

static void route(mci_boot* boot, int to, mci_frame_type type, uint16_t kind, const void* data, size_t bytes) {
  mci_header header = {.type = (uint16_t)type, .kind = kind, .from = boot->rank, .to = to, .bytes = (uint32_t)bytes};
  mci_control_route(boot, &header, data);
}

static bool same(const mci_ask* a, const mci_ask* b) { return a->asked == b->asked && a->operation == b->operation; }

static void read_status(mci_boot* boot, mci_rank_status* out) {
  *out = (mci_rank_status){.waits_for = -1};
  boot->status.read(boot->status.self, out);
  out->rank = boot->rank;
}

/* ---- the question of this rank ---- */

#define WAY_MAX (2 * MCI_CONTROL_DEPTH)

/* The ranks between this one and `to` and `to` itself, in the order of the way: up to where both meet, and down. Ranks
 * that have left are among them; whoever is in their place answers. */
static int way_to(const mci_boot* boot, int to, int way[WAY_MAX]) {
  int up = boot->rank, down[MCI_CONTROL_DEPTH], n = 0, ndown = 0;
  while (up != to) {
    if (up > to) {
      up = mci_control_parent(up);
      way[n++] = up;
    } else {
      down[ndown++] = to;
      to = mci_control_parent(to);
    }
  }
  while (ndown > 0) {
    int next = down[--ndown];
    if (n == 0 || way[n - 1] != next) way[n++] = next;
  }
  return n;
}

static void ask_the_way(mci_boot* boot) {
  int way[WAY_MAX], n = way_to(boot, boot->status.question.asked, way);
  for (int i = 0; i + 1 < n; i++) {
    mci_ask question = {.asked = way[i], .operation = boot->status.question.operation};
    if (!(boot->status.way_heard >> i & 1)) route(boot, way[i], FRAME_ASK, 0, &question, sizeof question);
  }
}

static void hear_the_way(mci_boot* boot, const mci_ask* question) {
  int way[WAY_MAX], n = way_to(boot, boot->status.question.asked, way);
  for (int i = 0; i < n; i++)
    if (way[i] == question->asked) boot->status.way_heard |= 1u << i;
}

/* Whoever is first on the way without an answer. */
static int silent_one(const mci_boot* boot) {
  int way[WAY_MAX], n = way_to(boot, boot->status.question.asked, way), i = 0;
  while (i + 1 < n && (boot->status.way_heard >> i & 1)) i++;
  return way[i];
}

static void ask(mci_boot* boot, const mci_ask* question) {
  mci_status_state* state = &boot->status;
  uint64_t now = mci_now_ns();
  bool lapsed = state->asked_ns && now - state->asked_ns > LAPSED_NS;
  if (!state->first_ns || lapsed || !same(&state->question, question)) {
    state->question = *question;
    state->first_ns = now;
    state->asked_ns = state->heard_ns = 0;
    state->way_heard = 0;
    state->answer = (mci_blame){.kind = MCI_BLAME_UNKNOWN};
  }
  if (state->asked_ns && now - state->asked_ns < ASK_NS) return;
  if (state->asked_ns > state->heard_ns) ask_the_way(boot);
  state->asked_ns = now;
  route(boot, question->asked, FRAME_ASK, 0, question, sizeof *question);
}

/* What is known now: the answer, or that there is none. */
static void known(const mci_boot* boot, mci_blame* out) {
  const mci_status_state* state = &boot->status;
  uint64_t silence_ns = mci_now_ns() - (state->heard_ns ? state->heard_ns : state->first_ns);
  *out = state->answer;
  out->age_ns += silence_ns;
  if (silence_ns < SILENT_NS) return;
  *out = (mci_blame){.kind = MCI_BLAME_SILENT,
                     .rank = silent_one(boot),
                     .waiter = boot->rank,
                     .operation = state->question.operation,
                     .still_ns = UINT64_MAX};
}

/* An end that was found lately. Older ones are not passed on: in a circle they would go round for ever. */
static bool is_end(const mci_blame* blame) {
  return blame->kind != MCI_BLAME_UNKNOWN && blame->kind != MCI_BLAME_WAITS && blame->age_ns < FRESH_NS;
}

/* ---- answers to others ---- */

static void tell(mci_boot* boot, int to, const mci_ask* question, const mci_blame* blame) {
  mci_tell answer = {.question = *question, .blame = *blame};
  route(boot, to, FRAME_TELL, 0, &answer, sizeof answer);
}

/* This rank stands between: the chain is one longer and as still as its liveliest rank. */
static void pass_on(mci_boot* boot, int to, const mci_ask* question, const mci_blame* blame, uint64_t own_still_ns) {
  mci_blame longer = *blame;
  longer.depth++;
  longer.still_ns = MCI_MIN(longer.still_ns, own_still_ns);
  tell(boot, to, question, &longer);
}

static void remember_asker(mci_status_state* state, int rank, const mci_ask* question) {
  int at = 0;
  while (at < state->naskers && state->askers[at].rank != rank) at++;
  if (at == MCI_CONTROL_ASKERS) return;
  state->naskers = MCI_MAX(state->naskers, at + 1);
  state->askers[at].rank = rank;
  state->askers[at].question = *question;
}

static void answer(mci_boot* boot, int from, const mci_ask* question) {
  mci_status_state* state = &boot->status;
  mci_blame blame = {.kind = MCI_BLAME_STARTING, .rank = boot->rank, .waiter = from, .operation = question->operation};
  if (!state->read && state->was_set) return; /* it is leaving: soon somebody else says so */
  if (!state->read) {
    blame.still_ns = UINT64_MAX;
    tell(boot, from, question, &blame);
    return;
  }
  read_status(boot, &blame.status);
  blame.still_ns = blame.status.still_ns;
  int on = blame.status.waits_for;
  bool waits = blame.status.busy && on >= 0 && on < boot->nranks && on != boot->rank;
  blame.kind = waits ? MCI_BLAME_WAITS : MCI_BLAME_END;
  if (waits) {
    mci_ask next = {.asked = on, .operation = blame.status.waits_operation};
    mci_blame beyond;
    ask(boot, &next);
    known(boot, &beyond);
    if (is_end(&beyond)) {
      pass_on(boot, from, question, &beyond, blame.still_ns);
      return;
    }
    remember_asker(state, from, question);
  }
  tell(boot, from, question, &blame);
}

static void take_answer(mci_boot* boot, const mci_tell* told) {
  mci_status_state* state = &boot->status;
  if (!state->first_ns || told->question.operation != state->question.operation) return;
  if (told->question.asked != state->question.asked) {
    hear_the_way(boot, &told->question);
    return;
  }
  mci_blame before;
  known(boot, &before);
  if (is_end(&before) && state->heard_ns && !is_end(&told->blame)) return; /* the longer answer is under way */
  uint32_t confirmed =
      state->answer.kind == told->blame.kind && state->answer.rank == told->blame.rank ? state->answer.confirmed : 0;
  state->answer = told->blame;
  state->answer.confirmed = confirmed + 1;
  state->heard_ns = mci_now_ns();
  state->way_heard = 0;
  if (!is_end(&told->blame) || !state->read) return;
  mci_rank_status own;
  read_status(boot, &own);
  int n = state->naskers;
  state->naskers = 0;
  for (int i = 0; i < n; i++)
    pass_on(boot, state->askers[i].rank, &state->askers[i].question, &state->answer, own.still_ns);
}

void mci_status_unreachable(mci_boot* boot, const mci_header* header, const void* data) {
  mci_tell told = {.blame = {.kind = MCI_BLAME_GONE, .rank = header->to, .waiter = header->from}};
  memcpy(&told.question, data, sizeof told.question);
  told.blame.operation = told.question.operation;
  told.blame.still_ns = UINT64_MAX;
  if (header->from == boot->rank) {
    take_answer(boot, &told);
  } else {
    route(boot, header->from, FRAME_TELL, 0, &told, sizeof told);
  }
}

/* ---- verdicts by way of the root ---- */

static void accuse(mci_boot* boot, const mci_verdict* verdict) {
  if (boot->parent && !boot->parent->muted) {
    mci_control_tell(boot->parent, FRAME_ACCUSE, 0, verdict, sizeof *verdict);
  } else {
    mci_control_fail(boot, verdict);
  }
}

/* ---- the status of all, for observers ---- */

void mci_status_query(mci_boot* boot, const mci_control_link* from, int asker, uint16_t sequence) {
  if (asker < 0 || asker >= boot->nranks) return;
  int32_t number = asker;
  for (mci_control_link* link = boot->links; link; link = link->next)
    if (link != from && link->state == LINK_ACTIVE)
      mci_control_tell(link, FRAME_QUERY, sequence, &number, sizeof number);
  if (!boot->status.read) return;
  mci_rank_status own;
  read_status(boot, &own);
  if (asker == boot->rank) {
    if (boot->observers) mci_observe_status(boot->observers, boot, sequence, &own);
  } else {
    route(boot, asker, FRAME_STATUS, sequence, &own, sizeof own);
  }
}

/* ---- frames ---- */

void mci_status_take(mci_boot* boot, const mci_packet* packet) {
  union {
    mci_ask ask;
    mci_tell tell;
    mci_verdict verdict;
    mci_rank_status status;
  } got;
  if (packet->header.bytes > sizeof got) return;
  memset(&got, 0, sizeof got);
  memcpy(&got, packet->data, packet->header.bytes);
  int from = packet->header.from;
  switch ((mci_frame_type)packet->header.type) {
    case FRAME_ASK:
      if (from >= 0 && from < boot->nranks && from != boot->rank) answer(boot, from, &got.ask);
      break;
    case FRAME_TELL:
      take_answer(boot, &got.tell);
      break;
    case FRAME_ACCUSE:
      accuse(boot, &got.verdict);
      break;
    default:
      if (boot->observers) mci_observe_status(boot->observers, boot, packet->header.kind, &got.status);
      break;
  }
}

/* ---- for the owner ---- */

void mci_boot_set_status(mci_boot* boot, void (*status)(void* self, mci_rank_status* out), void* self) {
  if (boot->generation != mci_fork_generation()) return;
  pthread_mutex_lock(&boot->lock);
  boot->status.read = status;
  boot->status.self = self;
  boot->status.was_set = true;
  pthread_mutex_unlock(&boot->lock);
}

void mci_boot_ask(mci_boot* boot, int rank, uint32_t operation, mci_blame* out) {
  *out = (mci_blame){.kind = MCI_BLAME_UNKNOWN};
  if (boot->generation != mci_fork_generation() || rank < 0 || rank >= boot->nranks || rank == boot->rank) return;
  mci_ask question = {.asked = rank, .operation = operation};
  pthread_mutex_lock(&boot->lock);
  ask(boot, &question);
  known(boot, out);
  pthread_mutex_unlock(&boot->lock);
}

void mci_boot_accuse(mci_boot* boot, int rank, meshcclResult_t result, const char* text) {
  if (boot->generation != mci_fork_generation()) return;
  mci_verdict verdict = {.rank = rank, .result = result};
  snprintf(verdict.text, sizeof verdict.text, "%s", text);
  pthread_mutex_lock(&boot->lock);
  accuse(boot, &verdict);
  pthread_mutex_unlock(&boot->lock);
}
