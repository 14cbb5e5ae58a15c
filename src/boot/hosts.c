/* A topology from the hosts of the ranks, see discover.h. Pure: the same on every rank. */
#include <stdlib.h>

#include "boot/discover.h"

typedef struct {
  uint64_t host;
  uint32_t rank, first; /* first: lowest rank of the host */
} seat;

static int by_host(const void* a, const void* b) {
  const seat *x = a, *y = b;
  if (x->host != y->host) return x->host < y->host ? -1 : 1;
  return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int by_node(const void* a, const void* b) {
  const seat *x = a, *y = b;
  if (x->first != y->first) return x->first < y->first ? -1 : 1;
  return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* In the order of nodes: hosts by their lowest rank, ranks of a host ascending. Returns the number of hosts. */
static uint32_t seat_ranks(const uint64_t* hosts, uint32_t n, seat* seats) {
  uint32_t nhosts = 0;
  for (uint32_t r = 0; r < n; r++) seats[r] = (seat){.host = hosts[r], .rank = r};
  qsort(seats, n, sizeof *seats, by_host);
  for (uint32_t i = 0; i < n; i++) {
    bool begins = i == 0 || seats[i].host != seats[i - 1].host;
    seats[i].first = begins ? seats[i].rank : seats[i - 1].first;
    nhosts += begins;
  }
  qsort(seats, n, sizeof *seats, by_node);
  return nhosts;
}

/* "4+4+3"; equal runs in a row as "2*4". */
static void print_runs(const seat* seats, uint32_t n, mci_str* out) {
  uint32_t size = 0, times = 0;
  for (uint32_t i = 0; i <= n;) {
    uint32_t end = i;
    while (end < n && seats[end].first == seats[i].first) end++;
    if (i < n && end - i == size) {
      times++;
    } else {
      if (times > 0) mci_str_add(out, times > 1 ? "%u*%u" : "%u", size, times);
      if (times > 0 && i < n) mci_str_add(out, "+");
      size = end - i;
      times = 1;
    }
    if (i == n) break;
    i = end;
  }
}

static meshcclResult_t set_map(mci_topo* topo, const seat* seats, uint32_t n) {
  uint32_t* map = mci_alloc(n * sizeof *map);
  if (!map) return mci_oom(n * sizeof *map);
  for (uint32_t node = 0; node < n; node++) map[seats[node].rank] = node;
  meshcclResult_t result = mci_topo_set_map(topo, map, n);
  mci_free(map);
  return result;
}

static meshcclResult_t build(const seat* seats, uint32_t n, uint32_t nhosts, const char* inside, mci_topo** out) {
  mci_topo* topo;
  mci_str spec = {0};
  if (nhosts == 1) {
    mci_str_add(&spec, "full:%u@%s", n, inside);
  } else if (nhosts == n) {
    mci_str_add(&spec, "full:%u@" MCI_LINK_HOSTS_RATE "," MCI_LINK_HOSTS_DELAY, n);
  } else {
    mci_str_add(&spec, "full:%u@%s,level=host:", n, inside);
    print_runs(seats, n, &spec);
    mci_str_add(&spec, ":" MCI_LINK_HOSTS_RATE ":" MCI_LINK_HOSTS_DELAY);
  }
  meshcclResult_t result = mci_str_result(&spec);
  if (result == meshcclSuccess) result = mci_topo_parse(spec.text, &topo);
  mci_str_fini(&spec);
  if (result != meshcclSuccess) return result;
  bool in_order = true;
  for (uint32_t i = 0; i < n; i++) in_order &= seats[i].rank == i;
  if (!in_order) result = set_map(topo, seats, n);
  if (result == meshcclSuccess)
    *out = topo;
  else
    mci_topo_destroy(topo);
  return result;
}

meshcclResult_t mci_discover_hosts(const uint64_t* hosts, uint32_t nranks, bool sockets, mci_topo** out) {
  seat* seats = mci_alloc(nranks * sizeof *seats);
  if (!seats) return mci_oom(nranks * sizeof *seats);
  uint32_t nhosts = seat_ranks(hosts, nranks, seats);
  meshcclResult_t result = build(seats, nranks, nhosts, sockets ? MCI_LINK_SOCKETS : MCI_LINK_HOST, out);
  mci_free(seats);
  return result;
}
