/* broadcast_perf: every rank gets the root's vector. */
#include "perf/engine/perf.h"

static perf_piece send_piece(const perf_view* view, int block) {
  (void)block;
  return view->rank == view->root ? (perf_piece){PERF_DATA, 0, 0} : (perf_piece){PERF_NONE, 0, 0};
}

static perf_piece recv_piece(const perf_view* view, int block) {
  (void)view;
  (void)block;
  return (perf_piece){PERF_DATA, 0, 0};
}

static double bus_factor(int nranks) {
  (void)nranks;
  return 1;
}

static meshcclResult_t call(const perf_call* c) {
  return meshcclBroadcast(c->send, c->recv, c->count, c->type, c->root, c->comm, c->stream);
}

static const perf_program program = {
    .program = "broadcast_perf",
    .name = "Broadcast",
    .collective = "broadcast",
    .send_blocks = PERF_ONE,
    .recv_blocks = PERF_ONE,
    .rooted = true,
    .in_place = true,
    .send = send_piece,
    .recv = recv_piece,
    .bus_factor = bus_factor,
    .call = call,
};

int main(int argc, char** argv) { return perf_main(&program, argc, argv); }
