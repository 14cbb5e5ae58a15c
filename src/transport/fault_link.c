/* What befalls the messages of one endpoint: counting, holding back in order, losing. */
#include <string.h>

#include "transport/fault.h"

#define HELD_MESSAGES 1024
#define HELD_BYTES ((size_t)4 << 20) /* one message is held whatever its size */

static bool meets(const mci_fault_active* active, const mci_fault_link* link) {
  return active->rule.peer == MCI_FAULT_ANY || active->rule.peer == link->rank;
}

static uint32_t begun(const mci_fault_active* active) {
  uint32_t state = 0;
  for (int kind = 0; kind < MCI_FAULT_KINDS; kind++)
    if (active->rule.from[kind] && active->seen >= active->rule.from[kind]) state |= 1u << kind;
  return state;
}

uint32_t mci_fault_state(const mci_fault_link* link) {
  const mci_fault_context* ctx = link->owner;
  uint32_t state = 0;
  for (int i = 0; i < ctx->nactive; i++)
    if (meets(&ctx->active[i], link)) state |= begun(&ctx->active[i]);
  return state;
}

/* A reset is an event of every endpoint that the rule concerns, not only of the one whose message was the n-th. */
static void reset_all(mci_fault_context* ctx) {
  for (mci_fault_link* link = ctx->links; link; link = link->next)
    if (mci_fault_state(link) & 1u << MCI_FAULT_RESET) link->reset = true;
}

uint32_t mci_fault_count(mci_fault_link* link) {
  mci_fault_context* ctx = link->owner;
  for (int i = 0; i < ctx->nactive; i++)
    if (meets(&ctx->active[i], link)) ctx->active[i].seen++;
  uint32_t state = mci_fault_state(link);
  if ((state & 1u << MCI_FAULT_RESET) && !link->reset) reset_all(ctx);
  return state;
}

/* What has begun stays: nobody takes back a message that met a fault. */
void mci_fault_take_back(mci_fault_link* link) {
  mci_fault_context* ctx = link->owner;
  for (int i = 0; i < ctx->nactive; i++)
    if (meets(&ctx->active[i], link)) ctx->active[i].seen--;
}

static uint64_t draw(mci_fault_context* ctx, uint64_t low, uint64_t high) {
  ctx->random = mci_hash64_mix(ctx->random, 1);
  return low + ctx->random % (high - low + 1);
}

uint64_t mci_fault_delay(mci_fault_link* link) {
  mci_fault_context* ctx = link->owner;
  uint64_t longest = 0;
  for (int i = 0; i < ctx->nactive; i++) {
    const mci_fault_rule* rule = &ctx->active[i].rule;
    if (rule->most_delay_ns == 0 || !meets(&ctx->active[i], link)) continue;
    longest = MCI_MAX(longest, draw(ctx, rule->delay_ns, rule->most_delay_ns));
  }
  return longest;
}

meshcclResult_t mci_fault_hold(mci_fault_link* link, const void* header, const meshcclPiece_t* pieces, int npieces) {
  const meshcclTransportHost_t* host = link->owner->host;
  size_t bytes = 0;
  for (int i = 0; i < npieces; i++) bytes += pieces[i].bytes;
  if (link->held && (link->held == HELD_MESSAGES || link->held_bytes + bytes > HELD_BYTES)) return meshcclBusy;
  mci_fault_message* message = mci_alloc(sizeof *message + bytes);
  if (!message) return host->fail(host->self, meshcclSystemError, "fault hook: no memory to hold a message");
  memcpy(message->header, header, sizeof message->header);
  message->bytes = bytes;
  for (size_t i = 0, at = 0; i < (size_t)npieces; at += pieces[i++].bytes)
    if (pieces[i].bytes) memcpy(message->payload + at, pieces[i].base, pieces[i].bytes);
  /* never before an earlier one */
  message->due_ns = MCI_MAX(link->last_due_ns, mci_now_ns() + mci_fault_delay(link));
  meshcclResult_t result = mci_fault_wait_until(link->owner, message->due_ns);
  if (result != meshcclSuccess) {
    mci_free(message);
    return result;
  }
  link->last_due_ns = message->due_ns;
  if (link->tail) {
    link->tail->next = message;
  } else {
    link->head = message;
  }
  link->tail = message;
  link->held++;
  link->held_bytes += bytes;
  return meshcclSuccess;
}

static mci_fault_message* pop(mci_fault_link* link) {
  mci_fault_message* message = link->head;
  link->head = message->next;
  if (!link->head) link->tail = NULL;
  link->held--;
  link->held_bytes -= message->bytes;
  return message;
}

void mci_fault_drop_held(mci_fault_link* link) {
  while (link->head) mci_free(pop(link));
}

int mci_fault_flush(mci_fault_link* link, uint64_t now_ns) {
  mci_fault_context* ctx = link->owner;
  int moved = 0;
  link->blocked = false;
  if (link->head && (link->reset || mci_fault_state(link))) mci_fault_drop_held(link);
  while (link->head && (link->leaving || link->head->due_ns <= now_ns)) {
    mci_fault_message* message = link->head;
    meshcclPiece_t piece = {message->payload, message->bytes};
    meshcclResult_t result = ctx->inner->send(link->ep, message->header, &piece, message->bytes ? 1 : 0, message);
    if (result == meshcclBusy) {
      link->blocked = true;
      break;
    }
    pop(link);
    moved++;
    if (result == meshcclInProgress) {
      message->next = ctx->lent;
      ctx->lent = message;
      continue;
    }
    mci_free(message);
    if (result != meshcclSuccess) { /* the cause was reported; the caller of send() has long gone on */
      link->reset = true;
      mci_fault_drop_held(link);
    }
  }
  return moved;
}

bool mci_fault_settle(mci_fault_context* ctx, const void* token) {
  for (mci_fault_message** at = &ctx->lent; *at; at = &(*at)->next) {
    if (*at != token) continue;
    mci_fault_message* message = *at;
    *at = message->next;
    mci_free(message);
    return true;
  }
  return false;
}
