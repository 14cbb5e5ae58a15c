/* The collectives: names and which buffers each rank has. */
#include <string.h>

#include "base/base.h"
#include "sched/sched.h"

static const struct {
  const char* name;
  bool reduces, rooted, block_major;
} colls[MCI_NUM_COLLS] = {
    [MCI_ALL_REDUCE] = {"all_reduce", true, false, false},
    [MCI_ALL_GATHER] = {"all_gather", false, false, true},
    [MCI_REDUCE_SCATTER] = {"reduce_scatter", true, false, true},
    [MCI_BROADCAST] = {"broadcast", false, true, false},
    [MCI_REDUCE] = {"reduce", true, true, false},
    [MCI_ALL_TO_ALL] = {"all_to_all", false, false, true},
    [MCI_GATHER] = {"gather", false, true, true},
    [MCI_SCATTER] = {"scatter", false, true, true},
    [MCI_BARRIER] = {"barrier", true, false, false},
    [MCI_SEND_RECV] = {"send_recv", false, false, false},
};

const char* mci_coll_name(mci_coll coll) { return colls[coll].name; }
bool mci_coll_reduces(mci_coll coll) { return colls[coll].reduces; }
bool mci_coll_rooted(mci_coll coll) { return colls[coll].rooted; }
bool mci_coll_block_major(mci_coll coll) { return colls[coll].block_major; }

static bool same_name(const char* a, const char* b) {
  for (;; a++, b++) {
    while (*a == '_') a++;
    while (*b == '_') b++;
    if (*a != *b) return false;
    if (!*a) return true;
  }
}

meshcclResult_t mci_coll_parse(const char* name, mci_coll* out) {
  for (int i = 0; i < MCI_SEND_RECV; i++) {
    if (!same_name(name, colls[i].name)) continue;
    *out = (mci_coll)i;
    return meshcclSuccess;
  }
  MCI_FAIL(meshcclInvalidArgument,
           "\"%s\" is not a collective; known: all_reduce, all_gather, reduce_scatter, broadcast, reduce, all_to_all, "
           "gather, scatter, barrier",
           name);
}

mci_coll_buffers_t mci_coll_buffers(mci_coll coll, uint32_t rank, uint32_t root) {
  bool is_root = rank == root;
  switch (coll) {
    case MCI_ALL_GATHER:
      return (mci_coll_buffers_t){.in_used = true, .out_used = true, .in_one_block = true};
    case MCI_REDUCE_SCATTER:
      return (mci_coll_buffers_t){.in_used = true, .out_used = true, .out_one_block = true};
    case MCI_BROADCAST:
      return (mci_coll_buffers_t){.in_used = is_root, .out_used = true};
    case MCI_REDUCE:
      return (mci_coll_buffers_t){.in_used = true, .out_used = is_root};
    case MCI_GATHER:
      return (mci_coll_buffers_t){.in_used = true, .out_used = is_root, .in_one_block = true};
    case MCI_SCATTER:
      return (mci_coll_buffers_t){.in_used = is_root, .out_used = true, .out_one_block = true};
    default:
      return (mci_coll_buffers_t){.in_used = true, .out_used = true};
  }
}
