/* Allgather and barrier of small values over the tree, for init and split. Each rank collects the entries of its
 * subtree and sends them to its parent; the root spreads the whole. Depth of the tree times two in latency; a rank
 * sends the entries of its subtree up once and receives all entries once. Blocks the caller; frames arrive through
 * progress. */
#include <stdio.h>
#include <string.h>

#include "boot/control.h"

#define BYTES_MAX 64

typedef struct {
  mci_boot* boot;
  unsigned char* all;
  size_t bytes; /* per rank */
  uint16_t sequence;
  uint64_t deadline_ns;
} gathering;

/* The next frame of this call. */
static meshcclResult_t next_frame(gathering* g, mci_frames* frames, const char* from, mci_frame** out) {
  mci_boot* boot = g->boot;
  while (!(*out = mci_frames_pop(frames))) {
    MCI_TRY(mci_control_failure(boot));
    if (mci_now_ns() >= g->deadline_ns) {
      mci_control_failf(boot, boot->rank, meshcclTimeout,
                        "rank %d waits in a collective setup call for %s: all ranks must make the same calls",
                        boot->rank, from);
      return mci_control_failure(boot);
    }
    mci_control_wait(boot, g->deadline_ns);
  }
  if ((*out)->header.kind == g->sequence) return meshcclSuccess;
  mci_free(*out);
  MCI_FAIL(meshcclInternalError, "rank %d: setup calls of the ranks are out of step", boot->rank);
}

/* Ranks of a subtree are one contiguous range per level. */
static int subtree_size(const mci_boot* boot) {
  int64_t low = boot->rank, high = boot->rank, n = 0;
  for (; low < boot->nranks; low = low * MCI_CONTROL_ARITY + 1, high = (high + 1) * MCI_CONTROL_ARITY)
    n += MCI_MIN(high, (int64_t)boot->nranks - 1) - low + 1;
  return (int)n;
}

static void describe_absent(const gathering* g, const unsigned char* seen, char* text, size_t size) {
  int first = g->boot->rank * MCI_CONTROL_ARITY + 1;
  size_t n = (size_t)snprintf(text, size, "rank");
  for (int i = 0; i < mci_control_children(g->boot); i++)
    if (!seen[i] && n + 12 < size) n += (size_t)snprintf(text + n, size - n, " %d", first + i);
}

static meshcclResult_t collect(gathering* g) {
  mci_boot* boot = g->boot;
  int missing = subtree_size(boot) - 1;
  unsigned char seen[MCI_CONTROL_ARITY] = {0};
  while (missing > 0) {
    char absent[256];
    mci_frame* frame;
    describe_absent(g, seen, absent, sizeof absent);
    MCI_TRY(next_frame(g, &boot->gathers, absent, &frame));
    size_t entry = sizeof(int32_t) + g->bytes, n = frame->header.bytes / entry;
    int child = frame->header.from - (boot->rank * MCI_CONTROL_ARITY + 1);
    if (child >= 0 && child < MCI_CONTROL_ARITY) seen[child] = 1;
    for (size_t i = 0; i < n; i++) {
      int32_t rank;
      memcpy(&rank, frame->data + i * entry, sizeof rank);
      if (rank > boot->rank && rank < boot->nranks)
        memcpy(g->all + (size_t)rank * g->bytes, frame->data + i * entry + sizeof rank, g->bytes);
    }
    missing -= (int)n;
    mci_free(frame);
  }
  return meshcclSuccess;
}

static void send_up(gathering* g) {
  mci_boot* boot = g->boot;
  unsigned char data[MCI_BOOT_MESSAGE_MAX];
  size_t filled = 0, entry = sizeof(int32_t) + g->bytes;
  int64_t low = boot->rank, high = boot->rank;
  for (; low < boot->nranks; low = low * MCI_CONTROL_ARITY + 1, high = (high + 1) * MCI_CONTROL_ARITY) {
    for (int32_t rank = (int32_t)low; rank <= high && rank < boot->nranks; rank++) {
      if (filled + entry > sizeof data) {
        mci_control_tell(boot->parent, FRAME_GATHER, g->sequence, data, filled);
        filled = 0;
      }
      memcpy(data + filled, &rank, sizeof rank);
      memcpy(data + filled + sizeof rank, g->all + (size_t)rank * g->bytes, g->bytes);
      filled += entry;
    }
  }
  mci_control_tell(boot->parent, FRAME_GATHER, g->sequence, data, filled);
}

/* Each frame: the offset and a piece. */
static void spread(gathering* g) {
  mci_boot* boot = g->boot;
  unsigned char data[MCI_BOOT_MESSAGE_MAX];
  uint64_t offset = 0, total = (uint64_t)boot->nranks * g->bytes;
  do {
    size_t n = MCI_MIN(total - offset, sizeof data - sizeof offset);
    memcpy(data, &offset, sizeof offset);
    memcpy(data + sizeof offset, g->all + offset, n);
    for (mci_control_link* link = boot->links; link; link = link->next)
      if (link->state == LINK_ACTIVE) mci_control_tell(link, FRAME_SPREAD, g->sequence, data, sizeof offset + n);
    offset += n;
  } while (offset < total);
}

static meshcclResult_t take_whole(gathering* g) {
  uint64_t offset, done = 0, total = (uint64_t)g->boot->nranks * g->bytes;
  do {
    mci_frame* frame;
    MCI_TRY(next_frame(g, &g->boot->spreads, "rank 0", &frame));
    size_t n = frame->header.bytes - sizeof offset;
    bool fits = frame->header.bytes >= sizeof offset;
    if (fits) memcpy(&offset, frame->data, sizeof offset);
    fits = fits && n <= total && offset <= total - n;
    if (fits) memcpy(g->all + offset, frame->data + sizeof offset, n);
    done += n;
    mci_free(frame);
    if (!fits) MCI_FAIL(meshcclInternalError, "rank %d: a setup call got a piece beyond its end", g->boot->rank);
  } while (done < total);
  return meshcclSuccess;
}

static meshcclResult_t gather(gathering* g) {
  MCI_TRY(mci_control_failure(g->boot));
  MCI_TRY(collect(g));
  if (g->boot->parent) {
    send_up(g);
    return take_whole(g);
  }
  spread(g);
  return meshcclSuccess;
}

meshcclResult_t mci_boot_allgather(mci_boot* boot, const void* mine, size_t bytes, void* all, uint64_t timeout_ns) {
  MCI_TRY(mci_control_usable(boot));
  if (bytes > BYTES_MAX)
    MCI_FAIL(meshcclInvalidArgument, "an allgather of %zu bytes per rank; at most %d fit", bytes, BYTES_MAX);
  gathering g = {.boot = boot, .all = all, .bytes = bytes, .deadline_ns = mci_now_ns() + timeout_ns};
  if (bytes > 0) memcpy(g.all + (size_t)boot->rank * bytes, mine, bytes);
  pthread_mutex_lock(&boot->lock);
  g.sequence = boot->gather_sequence++;
  meshcclResult_t result = gather(&g);
  pthread_mutex_unlock(&boot->lock);
  return result;
}

meshcclResult_t mci_boot_barrier(mci_boot* boot, uint64_t timeout_ns) {
  unsigned char nothing[1] = {0};
  return mci_boot_allgather(boot, nothing, 0, nothing, timeout_ns);
}
