/* sendrecv_perf: every rank sends to the next rank and receives from the one before, around a ring. */
#include "perf/engine/perf.h"

static perf_piece send_piece(const perf_view* view, int block) {
  (void)block;
  return (perf_piece){PERF_DATA, (uint64_t)view->rank, 0};
}

static perf_piece recv_piece(const perf_view* view, int block) {
  (void)block;
  return (perf_piece){PERF_DATA, (uint64_t)((view->rank + view->nranks - 1) % view->nranks), 0};
}

static double bus_factor(int nranks) {
  (void)nranks;
  return 1;
}

static meshcclResult_t call(const perf_call* c) {
  int next = (c->rank + 1) % c->nranks, previous = (c->rank + c->nranks - 1) % c->nranks;
  meshcclResult_t result = meshcclGroupStart();
  if (result == meshcclSuccess) result = meshcclSend(c->send, c->count, c->type, next, c->comm, c->stream);
  if (result == meshcclSuccess) result = meshcclRecv(c->recv, c->count, c->type, previous, c->comm, c->stream);
  meshcclResult_t end = meshcclGroupEnd();
  return result != meshcclSuccess ? result : end;
}

static const perf_program program = {
    .program = "sendrecv_perf",
    .name = "SendRecv",
    .send_blocks = PERF_ONE,
    .recv_blocks = PERF_ONE,
    .send = send_piece,
    .recv = recv_piece,
    .bus_factor = bus_factor,
    .call = call,
};

int main(int argc, char** argv) { return perf_main(&program, argc, argv); }
