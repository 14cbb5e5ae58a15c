/* One direction of one pair: a ring of messages in shared memory, written by one thread and read by one other. Lives in
 * the receiver's segment. No locks, no system calls, no allocation; knows nothing of contexts, hosts or sleeping.
 *
 * A message takes one cell, a pair of cache lines. It begins with the tag (the flag the receiver polls, with the length), the
 * header and the payload, if that fits: up to 40 bytes in the first line, then one line moves between the cores, and up to
 * 104 bytes in both. Of a header whose second half is zero, as those of values are, only the first one travels; with a whole
 * one these are 24 and 88 bytes. The cell says where a larger payload stands. Cells hold nothing but
 * messages, so a tag can never be mistaken: it is the message's number, which no earlier content of the cell had.
 *
 *     cells   | tag header payload | tag header offset--+ | ...        data | ....[ payload ]....... |
 *                                                       +-------------------------^
 *
 * A larger payload stands in a block, which changes hands with the message: the receiver reads it with lines fetched for
 * writing and sends its next larger payload in it. Between two who send to each other a line then crosses once per message,
 * where a place that goes back to its sender costs two crossings. Each ring brings two blocks, which are its sender's at
 * first. Whoever has none left, since he only sends, takes a stretch of `data`: so nothing needs to be given back.
 *
 * Order: the tag is stored with release after everything else of the message and loaded with acquire; `consumed` is
 * stored with release after the receiver is through with a message and loaded with acquire before its place is reused.
 * What the other side writes is checked before it is used as an index or a length. */
#ifndef MCI_SHM_RING_H
#define MCI_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "meshccl/transport.h"

#define MCI_SHM_CELLS 128u
#define MCI_SHM_DATA 65536u
/* A quarter of the data: with the gap at the wrap a message always fits into an empty ring, and three are under way. */
#define MCI_SHM_MAX_PAYLOAD 16384u
#define MCI_SHM_LINE 64u
/* Of longer messages lines are not fetched when a call begins: they would still be on their way when it writes them. */
#define MCI_SHM_FETCHED 2048u
#define MCI_SHM_ON_THEIR_WAY 1024u /* bytes that processors fetch at the same time */
#define MCI_SHM_HALF (MESHCCL_HEADER_BYTES / 2)
#define MCI_SHM_WHOLE_HEADER 0x80000000u /* of a tag's length */
#define MCI_SHM_IN_BLOCK 0x80000000u     /* of an offset: the rest is the number of a block, as its sender counts */
#define MCI_SHM_BLOCKS 2u

struct mci_shm_cell {
  _Alignas(2 * MCI_SHM_LINE) _Atomic uint64_t tag; /* number of the message (from 1) << 32 | whole header | bytes */
  unsigned char rest[2 * MCI_SHM_LINE - 8];        /* header, then the payload or a uint32_t: where it stands */
};
#define MCI_SHM_INLINE (sizeof(((struct mci_shm_cell*)0)->rest) - MCI_SHM_HALF) /* bytes, at most */
_Static_assert(sizeof(struct mci_shm_cell) == 2 * MCI_SHM_LINE, "a cell is two cache lines");

/* All zero at first. Fields of different writers are two lines apart, because processors fetch lines in pairs. */
struct mci_shm_ring {
  _Alignas(128) _Atomic uint64_t sender;     /* token of the one context that may write; 0: not claimed yet */
  _Alignas(128) _Atomic uint32_t wants_room; /* the sender sleeps until messages are consumed */
  _Alignas(128) _Atomic uint64_t consumed;   /* messages the receiver is through with */
  _Alignas(128) _Atomic uint32_t putting;    /* the sender writes to memory of the receiver, or is about to */
  _Alignas(128) _Atomic uint32_t refuses;    /* the receiver lets it do so no more */
  _Alignas(128) struct mci_shm_cell cells[MCI_SHM_CELLS];
  /* Whole vectors often begin at a page: then a copy never reads what has the low bits of an address it wrote just before,
   * which processors take for the same until the store is done. */
  _Alignas(4096) unsigned char data[MCI_SHM_DATA];
  unsigned char blocks[MCI_SHM_BLOCKS][MCI_SHM_MAX_PAYLOAD];
};

/* One end's view of the blocks of both directions: those of the ring that it writes come first. */
struct mci_shm_hands {
  struct mci_shm_ring* rings[2]; /* written, read */
  uint32_t owned;                /* bit i: block i is this end's */
  uint32_t last;                 /* that came: its lines are in this processor's cache */
  uint32_t arriving;             /* 1 + that of the oldest message, 0: none */
};

/* The sender's own view. Positions in data count modulo 2^32; those of a message never cross the end of data. */
struct mci_shm_tx {
  struct mci_shm_ring* ring;
  uint64_t head, consumed; /* messages sent, and those known to be consumed */
  uint32_t data_head, data_tail;
  uint32_t ends[MCI_SHM_CELLS];     /* data_head after the message of each cell */
  uint32_t last_header, last_bytes; /* of the last message */
  struct mci_shm_hands* hands;      /* NULL: no blocks */
};

struct mci_shm_rx {
  struct mci_shm_ring* ring;
  uint64_t tail; /* messages consumed */
  struct mci_shm_hands* hands;
};

struct mci_shm_message {
  unsigned char header[MESHCCL_HEADER_BYTES]; /* a copy: the sender cannot change it any more */
  size_t bytes;
  const void* data; /* in the ring until the message is popped */
};

static inline void mci_shm_hands_join(struct mci_shm_hands* hands, struct mci_shm_tx* tx, struct mci_shm_rx* rx) {
  *hands = (struct mci_shm_hands){.rings = {tx->ring, rx->ring}, .owned = (1u << MCI_SHM_BLOCKS) - 1};
  tx->hands = rx->hands = hands;
}

static inline unsigned char* mci_shm_block(const struct mci_shm_hands* hands, uint32_t block) {
  return hands->rings[block / MCI_SHM_BLOCKS]->blocks[block % MCI_SHM_BLOCKS];
}

static inline bool mci_shm_tx_has_block(const struct mci_shm_tx* tx) { return tx->hands && tx->hands->owned; }

/* One that this end owns: from now on it does not. */
static inline uint32_t mci_shm_block_leaves(struct mci_shm_hands* hands) {
  uint32_t block = hands->owned >> hands->last & 1 ? hands->last : (uint32_t)__builtin_ctz(hands->owned);
  hands->owned &= ~(1u << block);
  return block;
}

/* A block that the sender says it hands over; NULL: it cannot be its own. */
static inline unsigned char* mci_shm_block_arrives(struct mci_shm_hands* hands, uint32_t number, uint32_t bytes) {
  uint32_t block = number ^ MCI_SHM_BLOCKS; /* the ring that it writes is the one that is read here */
  if (!hands || number >= 2 * MCI_SHM_BLOCKS || hands->owned >> block & 1) return NULL;
  hands->arriving = block + 1;
  unsigned char* at = mci_shm_block(hands, block);
  meshcclFetchAllToWrite(at, bytes);
  return at;
}

/* Looks how far the receiver has come. True: there is more room than before. */
static inline bool mci_shm_tx_refresh(struct mci_shm_tx* tx) {
  uint64_t consumed = atomic_load_explicit(&tx->ring->consumed, memory_order_acquire);
  if (consumed - tx->consumed - 1 >= tx->head - tx->consumed)
    return false; /* unchanged, or nonsense of a broken peer */
  tx->consumed = consumed;
  tx->data_tail = tx->ends[(consumed - 1) % MCI_SHM_CELLS];
  return true;
}

static inline bool mci_shm_tx_cell_free(struct mci_shm_tx* tx) {
  if (tx->head - tx->consumed < MCI_SHM_CELLS) return true;
  return mci_shm_tx_refresh(tx) && tx->head - tx->consumed < MCI_SHM_CELLS;
}

/* Finds a stretch of data, moving to the start of data where the rest is too short. False: no room now. */
static inline bool mci_shm_tx_reserve(struct mci_shm_tx* tx, uint32_t bytes, uint32_t* offset) {
  uint32_t start = tx->data_head, to_end = MCI_SHM_DATA - start % MCI_SHM_DATA;
  if (bytes > to_end) start += to_end;
  uint32_t end = start + (bytes + MCI_SHM_LINE - 1) / MCI_SHM_LINE * MCI_SHM_LINE;
  if (end - tx->data_tail > MCI_SHM_DATA && (!mci_shm_tx_refresh(tx) || end - tx->data_tail > MCI_SHM_DATA))
    return false;
  tx->data_head = end;
  *offset = start % MCI_SHM_DATA;
  return true;
}

/* Where the next message will be written if it is as long as the last one: in its cell and in data. */
static inline void mci_shm_tx_next(const struct mci_shm_tx* tx, meshcclPlace_t lines[2]) {
  struct mci_shm_cell* cell = &tx->ring->cells[tx->head % MCI_SHM_CELLS];
  uint32_t bytes = tx->last_bytes, start = tx->data_head % MCI_SHM_DATA;
  bool fits = bytes <= sizeof cell->rest - tx->last_header;
  lines[0] = (meshcclPlace_t){cell, fits ? sizeof cell->tag + tx->last_header + bytes : MCI_SHM_LINE};
  bool in_data = !fits && !mci_shm_tx_has_block(tx);
  lines[1] = (meshcclPlace_t){tx->ring->data + (bytes > MCI_SHM_DATA - start ? 0 : start), in_data ? bytes : 0};
}

/* Fetches these lines for writing, while nobody waits for the message. */
static inline void mci_shm_tx_prepare(const struct mci_shm_tx* tx) {
  meshcclPlace_t lines[2];
  mci_shm_tx_next(tx, lines);
  meshcclFetchAllToWrite(lines[0].base, lines[0].bytes);
  meshcclFetchAllToWrite(lines[1].base, lines[1].bytes);
}

static inline uint32_t mci_shm_header_bytes(const void* header) {
  uint64_t second[MCI_SHM_HALF / sizeof(uint64_t)];
  memcpy(second, (const unsigned char*)header + MCI_SHM_HALF, sizeof second);
  return second[0] | second[1] ? MESHCCL_HEADER_BYTES : MCI_SHM_HALF;
}

/* False: the ring is full and nothing was taken. `bytes`, the sum of the pieces, is at most MCI_SHM_MAX_PAYLOAD. */
static inline bool mci_shm_tx_put(struct mci_shm_tx* tx, const void* header, const meshcclPiece_t* pieces, int npieces,
                                  size_t bytes) {
  if (!mci_shm_tx_cell_free(tx)) return false;
  uint32_t index = (uint32_t)(tx->head % MCI_SHM_CELLS);
  struct mci_shm_cell* cell = &tx->ring->cells[index];
  uint32_t header_bytes = mci_shm_header_bytes(header);
  unsigned char* to = cell->rest + header_bytes;
  if (bytes > sizeof cell->rest - header_bytes) {
    uint32_t offset;
    unsigned char* place;
    if (mci_shm_tx_has_block(tx)) {
      uint32_t block = mci_shm_block_leaves(tx->hands);
      offset = MCI_SHM_IN_BLOCK | block;
      place = mci_shm_block(tx->hands, block);
    } else {
      if (!mci_shm_tx_reserve(tx, (uint32_t)bytes, &offset)) return false;
      place = tx->ring->data + offset;
    }
    memcpy(to, &offset, sizeof offset);
    if (bytes > MCI_SHM_FETCHED)
      meshcclFetchToWrite(cell); /* the receiver polls it: it is back when the payload stands */
    to = place;
  }
  for (int i = 0; i < npieces; i++) {
    if (pieces[i].bytes == 0) continue;
    memcpy(to, pieces[i].base, pieces[i].bytes);
    to += pieces[i].bytes;
  }
  memcpy(cell->rest, header, MCI_SHM_HALF);
  if (header_bytes > MCI_SHM_HALF)
    memcpy(cell->rest + MCI_SHM_HALF, (const unsigned char*)header + MCI_SHM_HALF, MCI_SHM_HALF);
  tx->ends[index] = tx->data_head;
  tx->head++;
  tx->last_header = header_bytes;
  tx->last_bytes = (uint32_t)bytes;
  uint32_t whole = header_bytes > MCI_SHM_HALF ? MCI_SHM_WHOLE_HEADER : 0;
  atomic_store_explicit(&cell->tag, tx->head << 32 | whole | bytes, memory_order_release);
  mci_shm_tx_prepare(tx);
  return true;
}

/* 1: the oldest message is in *out; 0: there is none; -1: the sender has written what no sender of ours writes. */
static inline int mci_shm_rx_peek(const struct mci_shm_rx* rx, struct mci_shm_message* out) {
  struct mci_shm_cell* cell = &rx->ring->cells[rx->tail % MCI_SHM_CELLS];
  uint64_t tag = atomic_load_explicit(&cell->tag, memory_order_acquire);
  if ((uint32_t)(tag >> 32) != (uint32_t)(rx->tail + 1)) return 0;
  uint32_t bytes = (uint32_t)tag & ~MCI_SHM_WHOLE_HEADER;
  uint32_t header_bytes = (uint32_t)tag & MCI_SHM_WHOLE_HEADER ? MESHCCL_HEADER_BYTES : MCI_SHM_HALF;
  out->data = cell->rest + header_bytes;
  if (bytes > sizeof cell->rest - header_bytes) {
    uint32_t offset =
        *(volatile uint32_t*)(void*)(cell->rest + header_bytes); /* read once: it is checked and then used */
    if (bytes > MCI_SHM_MAX_PAYLOAD) return -1;
    if (offset & MCI_SHM_IN_BLOCK) {
      out->data = mci_shm_block_arrives(rx->hands, offset & ~MCI_SHM_IN_BLOCK, bytes);
      if (!out->data) return -1;
    } else {
      if (offset > MCI_SHM_DATA - bytes) return -1;
      out->data = rx->ring->data + offset;
      for (uint32_t i = 0; i < bytes && i < MCI_SHM_ON_THEIR_WAY; i += MCI_SHM_LINE)
        __builtin_prefetch((const unsigned char*)out->data + i);
    }
  }
  out->bytes = bytes;
  memcpy(out->header, cell->rest, MCI_SHM_HALF);
  if (header_bytes > MCI_SHM_HALF) {
    memcpy(out->header + MCI_SHM_HALF, cell->rest + MCI_SHM_HALF, MCI_SHM_HALF);
  } else {
    memset(out->header + MCI_SHM_HALF, 0, MCI_SHM_HALF);
  }
  return 1;
}

static inline bool mci_shm_rx_pending(const struct mci_shm_rx* rx) {
  uint64_t tag = atomic_load_explicit(&rx->ring->cells[rx->tail % MCI_SHM_CELLS].tag, memory_order_acquire);
  return (uint32_t)(tag >> 32) == (uint32_t)(rx->tail + 1);
}

/* Gives the oldest message's place back to the sender. */
static inline void mci_shm_rx_pop(struct mci_shm_rx* rx) {
  if (rx->hands && rx->hands->arriving) {
    rx->hands->last = rx->hands->arriving - 1;
    rx->hands->owned |= 1u << rx->hands->last;
    rx->hands->arriving = 0;
  }
  rx->tail++;
  atomic_store_explicit(&rx->ring->consumed, rx->tail, memory_order_release);
}
#endif
