/* Asks the planner, without any communicator: how would this machine run that collective, and how far from the bound?
 *
 *   explain_plan [SPEC] [COLLECTIVE] [BYTES] */
#include <meshccl/meshccl.h>
#include <meshccl/topo.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  const char* spec = argc > 1 ? argv[1] : "torus:4x4@50GB/s,500ns";
  const char* collective = argc > 2 ? argv[2] : "all_reduce";
  size_t bytes = argc > 3 ? (size_t)atoll(argv[3]) : 16 << 20, needed;
  static char text[16384];
  meshcclTopo_t topo;
  double us, factor;
  int count;
  MESHCCL_CHECK(meshcclTopoParse(&topo, spec));
  MESHCCL_CHECK(meshcclTopoCount(topo, &count));
  MESHCCL_CHECK(meshcclTopoBound(topo, collective, bytes, 0, &us, &factor));
  printf("%s of %zu bytes on %s (%d ranks): no schedule is faster than %.2f us\n", collective, bytes, spec, count, us);
  MESHCCL_CHECK(meshcclPlanExplain(topo, collective, bytes, text, sizeof text, &needed));
  fputs(text, stdout);
  return meshcclTopoDestroy(topo) != meshcclSuccess;
}
