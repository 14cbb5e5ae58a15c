/* The ring of shm alone: two threads (so that ThreadSanitizer sees both ends), wrap-around, full and empty, and garbage
 * written by the other side. The ring is a heap block of its exact size, so that AddressSanitizer sees every step out.
 */
#include <pthread.h>
#include <sched.h>

#include "support/test.h"
#include "transports/shm/ring.h"

static struct mci_shm_ring* ring_new(void) {
  struct mci_shm_ring* ring = aligned_alloc(_Alignof(struct mci_shm_ring), sizeof *ring);
  assert_non_null(ring);
  return memset(ring, 0, sizeof *ring);
}

/* Message i of a stream: everything follows from seed and number. */
static size_t make(uint64_t seed, uint32_t number, unsigned char* header, unsigned char* payload) {
  static const size_t edges[] = {0,
                                 1,
                                 8,
                                 24,
                                 25,
                                 40,
                                 41,
                                 87,
                                 88,
                                 89,
                                 MCI_SHM_INLINE - 1,
                                 MCI_SHM_INLINE,
                                 MCI_SHM_INLINE + 1,
                                 4096,
                                 MCI_SHM_MAX_PAYLOAD - 1,
                                 MCI_SHM_MAX_PAYLOAD};
  uint64_t state = seed + number * 977u;
  uint64_t kind = test_random(&state);
  size_t bytes = kind % 8 == 0 ? edges[kind / 8 % MCI_COUNT(edges)] : kind / 8 % 600;
  memset(header, (int)(number % 251), MESHCCL_HEADER_BYTES);
  memcpy(header, &number, sizeof number);
  if (number % 2) memset(header + MCI_SHM_HALF, 0, MCI_SHM_HALF); /* does not travel */
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word = test_random(&state);
    memcpy(payload + i, &word, MCI_MIN(sizeof word, bytes - i));
  }
  return bytes;
}

/* Cuts a payload into up to 16 pieces, some of them empty. */
static int cut(uint64_t seed, const unsigned char* payload, size_t bytes, meshcclPiece_t* pieces) {
  int n = (int)(test_random(&seed) % (MESHCCL_MAX_PIECES + 1));
  if (n == 0) n = bytes > 0;
  for (int i = 0; i < n; i++) {
    size_t part = i == n - 1 ? bytes : test_random(&seed) % (bytes + 1);
    pieces[i] = (meshcclPiece_t){part ? payload : NULL, part};
    payload += part;
    bytes -= part;
  }
  return n;
}

struct stream {
  struct mci_shm_ring* ring;
  uint64_t seed;
  uint32_t messages;
  uint32_t wrong, seen_full;
};

static void* sending(void* arg) {
  struct stream* s = arg;
  struct mci_shm_tx tx = {.ring = s->ring};
  unsigned char header[MESHCCL_HEADER_BYTES];
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD + 8];
  meshcclPiece_t pieces[MESHCCL_MAX_PIECES];
  for (uint32_t i = 0; i < s->messages; i++) {
    size_t bytes = make(s->seed, i, header, payload);
    int n = cut(s->seed ^ i, payload, bytes, pieces);
    while (!mci_shm_tx_put(&tx, header, pieces, n, bytes)) {
      s->seen_full++;
      sched_yield();
    }
  }
  return NULL;
}

static void receiving(struct stream* s) {
  struct mci_shm_rx rx = {.ring = s->ring};
  struct mci_shm_message message;
  unsigned char header[MESHCCL_HEADER_BYTES];
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD + 8];
  for (uint32_t i = 0; i < s->messages; i++) {
    int found;
    while ((found = mci_shm_rx_peek(&rx, &message)) == 0) sched_yield();
    size_t bytes = make(s->seed, i, header, payload);
    s->wrong += found != 1 || message.bytes != bytes || memcmp(message.header, header, sizeof header) != 0 ||
                memcmp(message.data, payload, bytes) != 0;
    mci_shm_rx_pop(&rx);
  }
  s->wrong += mci_shm_rx_peek(&rx, &message) != 0 || mci_shm_rx_pending(&rx);
}

static void two_threads_exchange_every_message_whole_and_in_order(void** state) {
  (void)state;
  struct stream s = {.ring = ring_new(), .seed = test_seed(), .messages = 60000};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, sending, &s), 0);
  receiving(&s);
  pthread_join(thread, NULL);
  assert_int_equal(s.wrong, 0);
  free(s.ring);
}

static void a_ring_of_cells_is_full_after_all_of_them(void** state) {
  (void)state;
  struct mci_shm_tx tx = {.ring = ring_new()};
  struct mci_shm_rx rx = {.ring = tx.ring};
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  for (int lap = 0; lap < 5; lap++) {
    for (uint32_t i = 0; i < MCI_SHM_CELLS; i++) assert_true(mci_shm_tx_put(&tx, header, NULL, 0, 0));
    assert_false(mci_shm_tx_put(&tx, header, NULL, 0, 0));
    assert_false(mci_shm_tx_refresh(&tx));
    struct mci_shm_message message;
    for (uint32_t i = 0; i < MCI_SHM_CELLS; i++) {
      assert_int_equal(mci_shm_rx_peek(&rx, &message), 1);
      mci_shm_rx_pop(&rx);
      if (i > 0) continue;
      assert_true(mci_shm_tx_put(&tx, header, NULL, 0, 0)); /* one place came back */
      assert_false(mci_shm_tx_put(&tx, header, NULL, 0, 0));
    }
    assert_int_equal(mci_shm_rx_peek(&rx, &message), 1);
    mci_shm_rx_pop(&rx);
    assert_int_equal(mci_shm_rx_peek(&rx, &message), 0);
  }
  free(tx.ring);
}

/* Whatever the position in data, the largest message goes through an empty ring: nothing is stuck for ever. */
static void the_largest_payload_fits_an_empty_ring_at_every_position(void** state) {
  (void)state;
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD];
  struct mci_shm_tx tx = {.ring = ring_new()};
  struct mci_shm_rx rx = {.ring = tx.ring};
  struct mci_shm_message message;
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  uint64_t seed = test_seed();
  for (int i = 0; i < 5000; i++) {
    size_t sizes[] = {test_random(&seed) % sizeof payload, sizeof payload, sizeof payload};
    for (size_t k = 0; k < MCI_COUNT(sizes); k++) {
      meshcclPiece_t piece = {payload, sizes[k]};
      if (!mci_shm_tx_put(&tx, header, &piece, 1, sizes[k])) fail_msg("round %d, message %zu did not fit", i, k);
    }
    for (size_t k = 0; k < MCI_COUNT(sizes); k++) {
      assert_int_equal(mci_shm_rx_peek(&rx, &message), 1);
      assert_int_equal(message.bytes, sizes[k]);
      mci_shm_rx_pop(&rx);
    }
  }
  free(tx.ring);
}

static void messages_that_wait_are_not_overwritten(void** state) {
  (void)state;
  struct mci_shm_tx tx = {.ring = ring_new()};
  struct mci_shm_rx rx = {.ring = tx.ring};
  struct mci_shm_message message;
  unsigned char header[MESHCCL_HEADER_BYTES];
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD + 8];
  uint64_t seed = test_seed(), random = seed;
  uint32_t sent = 0, got = 0;
  while (got < 20000) {
    for (;; sent++) { /* until full */
      size_t bytes = make(seed, sent, header, payload);
      meshcclPiece_t piece = {payload, bytes};
      if (!mci_shm_tx_put(&tx, header, &piece, 1, bytes)) break;
    }
    assert_true(sent > got);
    for (uint64_t n = 1 + test_random(&random) % 20; n > 0 && got < sent; n--, got++) {
      assert_int_equal(mci_shm_rx_peek(&rx, &message), 1);
      assert_int_equal(message.bytes, make(seed, got, header, payload));
      assert_memory_equal(message.header, header, sizeof header);
      assert_memory_equal(message.data, payload, message.bytes);
      mci_shm_rx_pop(&rx);
    }
  }
  free(tx.ring);
}

static bool within(meshcclPlace_t lines, const void* at, size_t bytes) {
  const char *begin = lines.base, *from = at;
  return from >= begin && from + bytes <= begin + lines.bytes;
}

static void the_lines_of_the_next_message_are_known(void** state) {
  (void)state;
  static const size_t sizes[] = {0, 8, 40, 41, 88, 89, MCI_SHM_INLINE, MCI_SHM_INLINE + 1, 2048, MCI_SHM_MAX_PAYLOAD};
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD];
  struct mci_shm_tx tx = {.ring = ring_new()};
  struct mci_shm_rx rx = {.ring = tx.ring};
  for (int whole = 0; whole < 2; whole++)
    for (size_t i = 0; i < 20 * MCI_COUNT(sizes); i++) {
      unsigned char header[MESHCCL_HEADER_BYTES] = {[MESHCCL_HEADER_BYTES - 1] = (unsigned char)whole};
      size_t bytes = sizes[i / 20];
      meshcclPiece_t piece = {payload, bytes};
      meshcclPlace_t lines[2];
      struct mci_shm_message message;
      mci_shm_tx_next(&tx, lines);
      assert_ptr_equal(lines[0].base, &tx.ring->cells[tx.head % MCI_SHM_CELLS]);
      assert_true(mci_shm_tx_put(&tx, header, &piece, 1, bytes));
      assert_int_equal(mci_shm_rx_peek(&rx, &message), 1);
      if (i % 20 > 0 && bytes > 0 && !within(lines[0], message.data, bytes) && !within(lines[1], message.data, bytes))
        fail_msg("%zu bytes are somewhere else", bytes);
      mci_shm_rx_pop(&rx);
    }
  free(tx.ring);
}

/* Two ends that send to each other. */
struct ends {
  struct mci_shm_tx tx[2];
  struct mci_shm_rx rx[2];
  struct mci_shm_hands hands[2];
};

static struct ends* ends_new(void) {
  struct ends* e = calloc(1, sizeof *e);
  assert_non_null(e);
  for (int i = 0; i < 2; i++) e->tx[i].ring = e->rx[!i].ring = ring_new();
  for (int i = 0; i < 2; i++) mci_shm_hands_join(&e->hands[i], &e->tx[i], &e->rx[i]);
  return e;
}

static void ends_free(struct ends* e) {
  for (int i = 0; i < 2; i++) free(e->tx[i].ring);
  free(e);
}

static bool in_a_block(const struct ends* e, const void* at) {
  for (uint32_t block = 0; block < 2 * MCI_SHM_BLOCKS; block++) {
    const unsigned char* begin = mci_shm_block(&e->hands[0], block);
    if ((const unsigned char*)at >= begin && (const unsigned char*)at < begin + MCI_SHM_MAX_PAYLOAD) return true;
  }
  return false;
}

static bool put_one(struct ends* e, int end, uint64_t seed, uint32_t number) {
  unsigned char header[MESHCCL_HEADER_BYTES], payload[MCI_SHM_MAX_PAYLOAD + 8];
  size_t bytes = make(seed + (uint64_t)end, number, header, payload);
  meshcclPiece_t piece = {payload, bytes};
  return mci_shm_tx_put(&e->tx[end], header, &piece, 1, bytes);
}

/* 1: taken, 0: there was none, -1: it was not what the other end sent. */
static int take_one(struct ends* e, int end, uint64_t seed, uint32_t number) {
  struct mci_shm_message message;
  int found = mci_shm_rx_peek(&e->rx[end], &message);
  if (found <= 0) return found;
  unsigned char header[MESHCCL_HEADER_BYTES], payload[MCI_SHM_MAX_PAYLOAD + 8];
  size_t bytes = make(seed + (uint64_t)!end, number, header, payload);
  bool right = message.bytes == bytes && memcmp(message.data, payload, bytes) == 0;
  mci_shm_rx_pop(&e->rx[end]);
  return right ? 1 : -1;
}

static void blocks_belong_to_one_end_or_are_under_way(void** state) {
  (void)state;
  struct ends* e = ends_new();
  uint64_t seed = test_seed(), random = seed;
  uint32_t sent[2] = {0, 0}, got[2] = {0, 0};
  while (got[0] + got[1] < 40000) {
    int end = (int)(test_random(&random) % 2);
    if (test_random(&random) % 2) {
      sent[end] += put_one(e, end, seed, sent[end]);
    } else if (sent[!end] > got[end]) {
      assert_int_equal(take_one(e, end, seed, got[end]), 1);
      got[end]++;
    }
    assert_int_equal(e->hands[0].owned & (e->hands[1].owned >> 2 | (e->hands[1].owned & 3) << 2), 0);
  }
  for (int end = 0; end < 2; end++)
    for (; got[end] < sent[!end]; got[end]++) assert_int_equal(take_one(e, end, seed, got[end]), 1);
  assert_int_equal(__builtin_popcount(e->hands[0].owned) + __builtin_popcount(e->hands[1].owned), 2 * MCI_SHM_BLOCKS);
  ends_free(e);
}

struct exchange {
  struct ends* ends;
  uint64_t seed;
  int end, wrong;
};

static void* exchanging(void* arg) {
  struct exchange* x = arg;
  for (uint32_t i = 0; i < 20000; i++) {
    int found;
    while (!put_one(x->ends, x->end, x->seed, i)) sched_yield();
    while ((found = take_one(x->ends, x->end, x->seed, i)) == 0) sched_yield();
    x->wrong += found < 0;
  }
  return NULL;
}

static void two_threads_hand_blocks_to_each_other(void** state) {
  (void)state;
  uint64_t seed = test_seed();
  struct ends* e = ends_new();
  struct exchange x[2] = {{e, seed, 0, 0}, {e, seed, 1, 0}};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, exchanging, &x[1]), 0);
  exchanging(&x[0]);
  pthread_join(thread, NULL);
  assert_int_equal(x[0].wrong + x[1].wrong, 0);
  ends_free(e);
}

static void who_only_sends_goes_on_without_blocks(void** state) {
  (void)state;
  struct ends* e = ends_new();
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  static unsigned char payload[4096];
  meshcclPiece_t piece = {payload, sizeof payload};
  struct mci_shm_message message;
  for (uint32_t i = 0; i < 100; i++) {
    assert_true(mci_shm_tx_put(&e->tx[0], header, &piece, 1, sizeof payload));
    assert_int_equal(mci_shm_rx_peek(&e->rx[1], &message), 1);
    assert_int_equal(in_a_block(e, message.data), i < MCI_SHM_BLOCKS);
    mci_shm_rx_pop(&e->rx[1]);
  }
  assert_true(mci_shm_tx_put(&e->tx[1], header, &piece, 1, sizeof payload)); /* an answer brings one back */
  assert_int_equal(mci_shm_rx_peek(&e->rx[0], &message), 1);
  mci_shm_rx_pop(&e->rx[0]);
  assert_true(mci_shm_tx_put(&e->tx[0], header, &piece, 1, sizeof payload));
  assert_int_equal(mci_shm_rx_peek(&e->rx[1], &message), 1);
  assert_true(in_a_block(e, message.data));
  ends_free(e);
}

static void blocks_that_the_sender_cannot_have_are_refused(void** state) {
  (void)state;
  struct ends* e = ends_new();
  struct mci_shm_rx alone = {.ring = e->rx[0].ring};
  struct mci_shm_cell* cell = &e->rx[0].ring->cells[0];
  struct mci_shm_message message;
  static const uint32_t numbers[] = {MCI_SHM_BLOCKS, 2 * MCI_SHM_BLOCKS - 1, 2 * MCI_SHM_BLOCKS, 1000,
                                     ~MCI_SHM_IN_BLOCK};
  for (size_t i = 0; i < MCI_COUNT(numbers); i++) { /* the first two are this end's own */
    uint32_t offset = MCI_SHM_IN_BLOCK | numbers[i];
    memcpy(cell->rest + MCI_SHM_HALF, &offset, sizeof offset);
    atomic_store(&cell->tag, (uint64_t)1 << 32 | 4096);
    if (mci_shm_rx_peek(&e->rx[0], &message) != -1) fail_msg("block %u was taken", numbers[i]);
  }
  uint32_t offset = MCI_SHM_IN_BLOCK;
  memcpy(cell->rest + MCI_SHM_HALF, &offset, sizeof offset);
  assert_int_equal(mci_shm_rx_peek(&alone, &message), -1);
  assert_int_equal(mci_shm_rx_peek(&e->rx[0], &message), 1);
  atomic_store(&cell->tag, (uint64_t)1 << 32 | (MCI_SHM_MAX_PAYLOAD + 1));
  assert_int_equal(mci_shm_rx_peek(&e->rx[0], &message), -1);
  ends_free(e);
}

static void numbers_wrap_at_32_bits(void** state) {
  (void)state;
  uint64_t start = ((uint64_t)1 << 32) - 300;
  struct mci_shm_tx tx = {
      .ring = ring_new(), .head = start, .consumed = start, .data_head = 0u - 40000u, .data_tail = 0u - 40000u};
  struct mci_shm_rx rx = {.ring = tx.ring, .tail = start};
  atomic_store(&tx.ring->consumed, start);
  unsigned char header[MESHCCL_HEADER_BYTES] = {0}, payload[1000] = {0};
  struct mci_shm_message message;
  meshcclPiece_t piece = {payload, sizeof payload};
  for (uint32_t i = 0; i < 1000; i++) {
    assert_int_equal(mci_shm_rx_peek(&rx, &message), 0);
    memcpy(payload, &i, sizeof i);
    assert_true(mci_shm_tx_put(&tx, header, &piece, 1, sizeof payload));
    assert_int_equal(mci_shm_rx_peek(&rx, &message), 1);
    assert_memory_equal(message.data, payload, sizeof payload);
    mci_shm_rx_pop(&rx);
  }
  free(tx.ring);
}

static void set_offset(struct mci_shm_cell* cell, uint32_t offset) {
  memcpy(cell->rest + MCI_SHM_HALF, &offset, sizeof offset);
}

static void garbage_from_the_sender_is_recognised(void** state) {
  (void)state;
  static const struct {
    const char* what;
    uint32_t bytes, offset;
  } rows[] = {{"payload too large", MCI_SHM_MAX_PAYLOAD + 1, 0},
              {"huge payload", UINT32_MAX, 0},
              {"huge payload after half a header", UINT32_MAX & ~MCI_SHM_WHOLE_HEADER, 0},
              {"offset at the end", 4096, MCI_SHM_DATA},
              {"payload over the end", 4096, MCI_SHM_DATA - 4095},
              {"huge offset", MCI_SHM_INLINE + 1, UINT32_MAX},
              {"offset that wraps", MCI_SHM_MAX_PAYLOAD, UINT32_MAX - MCI_SHM_MAX_PAYLOAD + 1}};
  struct mci_shm_rx rx = {.ring = ring_new()};
  struct mci_shm_message message;
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    set_offset(&rx.ring->cells[0], rows[i].offset);
    atomic_store(&rx.ring->cells[0].tag, (uint64_t)1 << 32 | rows[i].bytes);
    if (mci_shm_rx_peek(&rx, &message) != -1) fail_msg("%s was taken", rows[i].what);
  }
  set_offset(&rx.ring->cells[0], MCI_SHM_DATA - 4096); /* the last that is right */
  atomic_store(&rx.ring->cells[0].tag, (uint64_t)1 << 32 | 4096);
  assert_int_equal(mci_shm_rx_peek(&rx, &message), 1);
  free(rx.ring);
}

static void random_garbage_never_leads_out_of_the_ring(void** state) {
  (void)state;
  uint64_t seed = test_seed(), words = sizeof(struct mci_shm_ring) / sizeof(uint64_t), sum = 0;
  struct mci_shm_rx rx = {.ring = ring_new()};
  struct mci_shm_tx tx = {.ring = rx.ring};
  static unsigned char payload[MCI_SHM_MAX_PAYLOAD];
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  for (int i = 0; i < 200000; i++) {
    struct mci_shm_cell* cell = &rx.ring->cells[rx.tail % MCI_SHM_CELLS];
    uint64_t noise = test_random(&seed);
    memcpy((uint64_t*)(void*)rx.ring + test_random(&seed) % words, &noise, sizeof noise);
    set_offset(cell, (uint32_t)(noise >> (noise & 31)));
    uint32_t whole = noise & 2 ? MCI_SHM_WHOLE_HEADER : 0;
    atomic_store(&cell->tag, (rx.tail + 1) << 32 | whole | noise % 40000);
    atomic_store(&rx.ring->consumed, noise & 1 ? noise : tx.consumed + noise % 300);
    struct mci_shm_message message;
    if (mci_shm_rx_peek(&rx, &message) == 1)
      for (size_t k = 0; k < message.bytes; k += 61) sum += ((const unsigned char*)message.data)[k];
    mci_shm_rx_pop(&rx);
    meshcclPiece_t piece = {payload, noise % sizeof payload};
    mci_shm_tx_put(&tx, header, &piece, 1, piece.bytes);
  }
  assert_true(sum > 0);
  free(rx.ring);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(two_threads_exchange_every_message_whole_and_in_order),
      cmocka_unit_test(a_ring_of_cells_is_full_after_all_of_them),
      cmocka_unit_test(the_largest_payload_fits_an_empty_ring_at_every_position),
      cmocka_unit_test(messages_that_wait_are_not_overwritten),
      cmocka_unit_test(the_lines_of_the_next_message_are_known),
      cmocka_unit_test(blocks_belong_to_one_end_or_are_under_way),
      cmocka_unit_test(two_threads_hand_blocks_to_each_other),
      cmocka_unit_test(who_only_sends_goes_on_without_blocks),
      cmocka_unit_test(blocks_that_the_sender_cannot_have_are_refused),
      cmocka_unit_test(numbers_wrap_at_32_bits),
      cmocka_unit_test(garbage_from_the_sender_is_recognised),
      cmocka_unit_test(random_garbage_never_leads_out_of_the_ring),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
