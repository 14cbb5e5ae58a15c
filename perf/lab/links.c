/* lab_links SPEC: the links of a topology and the way of every pair, for perf/lab/inside.sh. Lines:
 *   link A B     two neighbours, A < B
 *   via U V W    what U sends to V goes to its neighbour W first: dimension order, last dimension first, upwards where
 *                both ways round a ring are equally long, any shortest way around holes; as the planner thinks of routes
 *   snake R..    ranks in an order in which a whole grid's neighbours in the list are neighbours */
#include <meshccl/meshccl.h>
#include <meshccl/topo.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_PEERS 64
#define MOST_DIMS 8

static void check(meshcclResult_t result) {
  if (result == meshcclSuccess) return;
  fprintf(stderr, "lab_links: %s\n", meshcclGetLastError(NULL));
  exit(1);
}

typedef struct {
  meshcclTopo_t topo;
  int nranks, ndims, sides[MOST_DIMS], wraps[MOST_DIMS];
} grid;

static int peers_of(const grid* g, int rank, int peers[MOST_PEERS]) {
  int n = MOST_PEERS;
  check(meshcclTopoNeighbors(g->topo, rank, peers, &n));
  return n;
}

static int hops(const grid* g, int a, int b) {
  int n;
  check(meshcclTopoHops(g->topo, a, b, &n));
  return n;
}

/* How gladly `from` goes by `to`: the last dimension first, upwards before downwards. */
static int liking(const grid* g, int from, int to) {
  int a[MOST_DIMS], b[MOST_DIMS], n = MOST_DIMS;
  check(meshcclTopoCoordinates(g->topo, from, a, &n));
  n = MOST_DIMS;
  check(meshcclTopoCoordinates(g->topo, to, b, &n));
  int dim = g->ndims - 1;
  while (dim > 0 && a[dim] == b[dim]) dim--;
  return 2 * dim + ((a[dim] + 1) % g->sides[dim] == b[dim]);
}

static int first_hop(const grid* g, int from, int to) {
  int peers[MOST_PEERS], n = peers_of(g, from, peers), best = -1, most = -1, length = hops(g, from, to);
  for (int i = 0; i < n; i++) {
    if (hops(g, peers[i], to) != length - 1 || liking(g, from, peers[i]) <= most) continue;
    best = peers[i];
    most = liking(g, from, best);
  }
  return best;
}

static void print_snake(const grid* g) {
  int total = 1;
  for (int d = 0; d < g->ndims; d++) total *= g->sides[d];
  printf("snake");
  for (int i = 0; i < total; i++) {
    int coords[MOST_DIMS], rank = -1;
    for (int d = g->ndims, rest = i; d-- > 0; rest /= g->sides[d]) {
      coords[d] = rest % g->sides[d];
      if (rest / g->sides[d] % 2) coords[d] = g->sides[d] - 1 - coords[d]; /* every other line backwards */
    }
    check(meshcclTopoRankAt(g->topo, coords, g->ndims, &rank));
    if (rank >= 0) printf(" %d", rank);
  }
  printf("\n");
}

int main(int argc, char** argv) {
  grid g = {.ndims = MOST_DIMS};
  if (argc != 2) {
    fprintf(stderr, "usage: lab_links SPEC\n");
    return 2;
  }
  check(meshcclTopoParse(&g.topo, argv[1]));
  check(meshcclTopoCount(g.topo, &g.nranks));
  check(meshcclTopoDims(g.topo, g.sides, g.wraps, &g.ndims));
  if (g.ndims == 0) {
    fprintf(stderr, "lab_links: %s has no links between neighbours; say ring, line, mesh or torus\n", argv[1]);
    return 2;
  }
  for (int a = 0; a < g.nranks; a++) {
    int peers[MOST_PEERS], n = peers_of(&g, a, peers);
    for (int i = 0; i < n; i++)
      if (peers[i] > a) printf("link %d %d\n", a, peers[i]);
  }
  for (int a = 0; a < g.nranks; a++)
    for (int b = 0; b < g.nranks; b++)
      if (a != b) printf("via %d %d %d\n", a, b, first_hop(&g, a, b));
  print_snake(&g);
  check(meshcclTopoDestroy(g.topo));
  return 0;
}
