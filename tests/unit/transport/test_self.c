/* self: order, sizes, pieces, back-pressure, and callbacks that send, disconnect or wait. */
#include "host.h"
#include "transport/builtin.h"

#define SELF (&mci_transport_self)

struct rig {
  struct test_host host;
  void* ctx;
  void* ep;
  unsigned char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes;
};

static void rig_open(struct rig* rig) {
  memset(rig, 0, sizeof *rig);
  host_init(&rig->host, 3, 8);
  rig->host.user = rig;
  check_ok(SELF->open(&rig->host.table, &rig->ctx));
  rig->bytes = sizeof rig->address;
  check_ok(SELF->address(rig->ctx, rig->address, &rig->bytes));
  check_ok(SELF->connect(rig->ctx, rig, 3, rig->address, rig->bytes, &rig->ep));
}

static void rig_close(struct rig* rig) {
  if (rig->ep) SELF->disconnect(rig->ep);
  SELF->close(rig->ctx);
}

static void header_of(unsigned char* header, uint32_t number) {
  memset(header, 0xa5, MESHCCL_HEADER_BYTES);
  memcpy(header, &number, sizeof number);
}

static void only_itself_is_reached(void** state) {
  (void)state;
  struct rig a, b;
  meshcclTransportFigures_t figures;
  rig_open(&a);
  rig_open(&b);
  check_ok(SELF->reach(a.ctx, a.address, a.bytes, &figures));
  assert_true(figures.flags & MESHCCL_SAME_PROCESS);
  assert_true(figures.maxPayload >= 4096);
  assert_int_equal(SELF->reach(a.ctx, b.address, b.bytes, &figures), meshcclNotSupported);
  assert_int_equal(SELF->reach(a.ctx, a.address, a.bytes - 1, &figures), meshcclNotSupported);
  assert_int_equal(a.host.failures, 0); /* reach does not log */
  void* ep;
  check_fails(SELF->connect(a.ctx, NULL, 5, b.address, b.bytes, &ep), meshcclInvalidArgument, "rank 5");
  size_t small = 4;
  assert_int_equal(SELF->address(a.ctx, b.address, &small), meshcclInvalidArgument);
  rig_close(&a);
  rig_close(&b);
}

static uint32_t expected_number;
static unsigned char expected_payload[5000];

static void expect_next(struct test_host* host, void* peer, const void* header, size_t bytes, const void* data) {
  unsigned char expected[MESHCCL_HEADER_BYTES];
  header_of(expected, expected_number++);
  assert_ptr_equal(peer, host->user);
  assert_memory_equal(header, expected, sizeof expected);
  if (data && bytes) assert_memory_equal(data, expected_payload, bytes);
}

static void messages_keep_order_whatever_their_size(void** state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 8, 255, 256, 257, 4096, 4999, 0, 3};
  struct rig rig;
  unsigned char header[MESHCCL_HEADER_BYTES];
  for (size_t i = 0; i < sizeof expected_payload; i++) expected_payload[i] = (unsigned char)(i * 7 + 1);
  rig_open(&rig);
  rig.host.on_arrive = expect_next;
  expected_number = 0;
  int expected_sent = 0;
  for (size_t i = 0; i < MCI_COUNT(sizes); i++) {
    meshcclPiece_t piece = {expected_payload, sizes[i]};
    header_of(header, (uint32_t)i);
    meshcclResult_t result = SELF->send(rig.ep, header, &piece, 1, (void*)(i + 1));
    if (result != (sizes[i] > 256 ? meshcclInProgress : meshcclSuccess)) fail_msg("size %zu", sizes[i]);
    expected_sent += result == meshcclInProgress;
    memset(header, 0, sizeof header); /* is the caller's again */
  }
  assert_int_equal(rig.host.arrivals, 0);
  assert_int_equal(SELF->arm(rig.ctx), meshcclBusy);
  assert_int_equal(SELF->progress(rig.ctx), MCI_COUNT(sizes));
  assert_int_equal(SELF->progress(rig.ctx), 0);
  assert_int_equal(SELF->arm(rig.ctx), meshcclSuccess);
  assert_int_equal(rig.host.arrivals, MCI_COUNT(sizes));
  assert_int_equal(rig.host.sent, expected_sent);
  assert_ptr_equal(rig.host.last_sent, (void*)8);
  rig_close(&rig);
}

static void pieces_land_in_places_cut_otherwise(void** state) {
  (void)state;
  unsigned char in[4 * MESHCCL_MAX_PIECES * 100], out[sizeof in];
  uint64_t seed = test_seed();
  for (int round = 0; round < 200; round++) {
    struct rig rig;
    unsigned char header[MESHCCL_HEADER_BYTES] = {0};
    meshcclPiece_t pieces[MESHCCL_MAX_PIECES];
    size_t bytes = 0;
    rig_open(&rig);
    for (size_t i = 0; i < sizeof in; i++) in[i] = (unsigned char)test_random(&seed);
    for (int i = 0; i < MESHCCL_MAX_PIECES; i++) {
      pieces[i] = (meshcclPiece_t){in + bytes, i == 0 ? 300 : test_random(&seed) % 200};
      bytes += pieces[i].bytes;
    }
    size_t at = 0;
    for (int i = 0; i < MESHCCL_MAX_PIECES; i++) {
      size_t left = bytes - at, n = i == MESHCCL_MAX_PIECES - 1 ? left : test_random(&seed) % (left / 2 + 1);
      rig.host.places[i] = (meshcclPlace_t){out + at, n};
      at += n;
    }
    rig.host.nplaces = MESHCCL_MAX_PIECES;
    memset(out, 0, sizeof out);
    assert_int_equal(SELF->send(rig.ep, header, pieces, MESHCCL_MAX_PIECES, &rig), meshcclInProgress);
    assert_int_equal(SELF->progress(rig.ctx), 1);
    assert_int_equal(rig.host.received, 1);
    assert_ptr_equal(rig.host.last_sent, &rig);
    assert_memory_equal(in, out, bytes);
    rig_close(&rig);
  }
}

static void places_that_do_not_fit_are_reported(void** state) {
  (void)state;
  unsigned char memory[600];
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  meshcclPiece_t pieces[2] = {{memory, 200}, {memory + 200, 200}};
  struct rig rig;
  rig_open(&rig);
  rig.host.places[0] = (meshcclPlace_t){memory, 399};
  rig.host.nplaces = 1;
  assert_int_equal(SELF->send(rig.ep, header, pieces, 2, NULL), meshcclInProgress);
  SELF->progress(rig.ctx);
  assert_int_equal(rig.host.failures, 1);
  assert_int_equal(rig.host.received, 0);
  rig_close(&rig);
}

static void a_full_queue_is_busy_and_recovers(void** state) {
  (void)state;
  struct rig rig;
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  rig_open(&rig);
  int taken = 0;
  while (SELF->send(rig.ep, header, NULL, 0, NULL) == meshcclSuccess) taken++;
  assert_in_range(taken, 8, 100000);
  assert_int_equal(SELF->progress(rig.ctx), taken);
  check_ok(SELF->send(rig.ep, header, NULL, 0, NULL));
  assert_int_equal(rig.host.failures, 0);
  rig_close(&rig);
}

static int depth, deepest, left_to_send;

static void send_again(struct test_host* host, void* peer, const void* header, size_t bytes, const void* data) {
  (void)header, (void)bytes, (void)data;
  unsigned char next[MESHCCL_HEADER_BYTES] = {0};
  depth++;
  deepest = MCI_MAX(deepest, depth);
  struct rig* rig = peer;
  (void)host;
  if (left_to_send-- > 0) check_ok(SELF->send(rig->ep, next, NULL, 0, NULL));
  depth--;
}

static void a_callback_that_sends_neither_recurses_nor_blocks_progress(void** state) {
  (void)state;
  struct rig rig;
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  rig_open(&rig);
  rig.host.on_arrive = send_again;
  depth = deepest = 0;
  left_to_send = 100000;
  check_ok(SELF->send(rig.ep, header, NULL, 0, NULL));
  assert_int_equal(SELF->progress(rig.ctx), 1); /* what the callback sent is for the next call */
  while (SELF->progress(rig.ctx) > 0) continue;
  assert_int_equal(rig.host.arrivals, 100001);
  assert_int_equal(deepest, 1);
  rig_close(&rig);
}

static void disconnect_now(struct test_host* host, void* peer, const void* header, size_t bytes, const void* data) {
  (void)host, (void)header, (void)bytes, (void)data;
  struct rig* rig = peer;
  SELF->disconnect(rig->ep);
  rig->ep = NULL;
}

static void callbacks_stop_at_disconnect_even_inside_one(void** state) {
  (void)state;
  struct rig rig;
  unsigned char header[MESHCCL_HEADER_BYTES] = {0}, large[1000] = {0};
  meshcclPiece_t piece = {large, sizeof large};
  rig_open(&rig);
  rig.host.on_arrive = disconnect_now;
  for (int i = 0; i < 3; i++) assert_int_equal(SELF->send(rig.ep, header, &piece, 1, NULL), meshcclInProgress);
  assert_int_equal(SELF->progress(rig.ctx), 1);
  assert_int_equal(rig.host.arrivals, 1);
  assert_int_equal(rig.host.sent, 0);
  assert_int_equal(SELF->progress(rig.ctx), 0);
  check_ok(SELF->connect(rig.ctx, &rig, 3, rig.address, rig.bytes, &rig.ep));
  rig_close(&rig);
}

static void too_much_is_refused(void** state) {
  (void)state;
  struct rig rig;
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  meshcclPiece_t piece = {header, ((size_t)16 << 20) + 1};
  rig_open(&rig);
  check_fails(SELF->send(rig.ep, header, &piece, 1, NULL), meshcclInvalidArgument, "16 MiB");
  check_fails(SELF->send(rig.ep, header, &piece, MESHCCL_MAX_PIECES + 1, NULL), meshcclInvalidArgument, "16 pieces");
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_itself_is_reached),
      cmocka_unit_test(messages_keep_order_whatever_their_size),
      cmocka_unit_test(pieces_land_in_places_cut_otherwise),
      cmocka_unit_test(places_that_do_not_fit_are_reported),
      cmocka_unit_test(a_full_queue_is_busy_and_recovers),
      cmocka_unit_test(a_callback_that_sends_neither_recurses_nor_blocks_progress),
      cmocka_unit_test(callbacks_stop_at_disconnect_even_inside_one),
      cmocka_unit_test(too_much_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
