/* all_reduce_perf: every rank gets the reduction of all ranks' vectors. */
#include "perf/engine/perf.h"

static perf_piece send_piece(const perf_view* view, int block) {
  (void)view;
  (void)block;
  return (perf_piece){PERF_INPUT, 0, 0};
}

static perf_piece recv_piece(const perf_view* view, int block) {
  (void)view;
  (void)block;
  return (perf_piece){PERF_RESULT, 0, 0};
}

static double bus_factor(int nranks) { return 2.0 * (nranks - 1) / nranks; }

static meshcclResult_t call(const perf_call* c) {
  return meshcclAllReduce(c->send, c->recv, c->count, c->type, c->op, c->comm, c->stream);
}

static const perf_program program = {
    .program = "all_reduce_perf",
    .name = "AllReduce",
    .collective = "all_reduce",
    .send_blocks = PERF_ONE,
    .recv_blocks = PERF_ONE,
    .reduces = true,
    .in_place = true,
    .send = send_piece,
    .recv = recv_piece,
    .bus_factor = bus_factor,
    .call = call,
};

int main(int argc, char** argv) { return perf_main(&program, argc, argv); }
