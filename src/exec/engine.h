/* The executor's own structures; see docs/architecture.md for how they play together. */
#ifndef MCI_ENGINE_H
#define MCI_ENGINE_H

#include "exec/exec.h"

/* Counters that other threads may read at any time; only the holder of the engine's lock writes, so plain loads and
 * stores do. */
static inline void mci_gain(_Atomic uint64_t* counter, uint64_t n) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t mci_read(const _Atomic uint64_t* counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}

enum {
  MCI_MSG_DATA = 1,
  MCI_MSG_REF,
  MCI_MSG_ACK,
  MCI_MSG_KEY,
  MCI_MSG_FORGET,
  MCI_MSG_HELLO,
  MCI_MSG_ASK,
  MCI_MSG_PUT
};
#define MCI_RAW_ADDRESS UINT32_MAX
#define MCI_FETCH_TOKEN \
  ((uintptr_t)1) /* tells a transport's token of an arrival that is read from one of an operation */
#define MCI_MAX_CREDITS 64
#define MCI_MAX_TRANSPORTS 8
#define MCI_SMALL_BYTES 8192u /* of messages and vectors: by value, without asking whether they could be lent */

#define MCI_REF_PUTS 1 /* who lends writes it to where it is asked to */

/* What travels in front of every message. `ack` counts the messages consumed on the lane of the other direction. `bytes` are
 * those of a reference: a value's are the payload's, so that the second half of its header is zero, which transports may
 * leave out. */
typedef struct {
  uint8_t kind, flags;
  uint16_t channel;
  uint32_t sequence, fingerprint, ack, bytes, region;
  uint64_t offset;
} mci_header;
_Static_assert(sizeof(mci_header) == MESHCCL_HEADER_BYTES, "the header fills what transports carry");

/* A chunk as a stream of contiguous stretches. */
typedef struct {
  mci_pieces pieces;
  char* base;
  char* at;
  uint64_t left; /* elements up to the end of the current stretch */
  uint32_t type_size;
} mci_view;

void mci_view_start(mci_view* view, const mci_layout* layout, uint64_t count, const mci_arg* arg, int64_t one_block,
                    void* base, uint32_t type_size);
/* The next stretch of at most `want` elements (want > 0); the view moves on by *got. */
void* mci_view_take(mci_view* view, uint64_t want, uint64_t* got);
/* Where the view stands and how many elements are contiguous there. */
void* mci_view_peek(mci_view* view, uint64_t* contiguous);

/* A place of one slice in shared memory, which peers read. Free when all who were told of it have acknowledged it. */
typedef struct mci_slot {
  struct mci_slot *next, *next_made; /* of the free ones, the first freed first; of all */
  char* at;
  struct mci_shared_region region;
  uint32_t users;
} mci_slot;

/* What stands in a slot that may be sent to several peers, one after the other, by the collective under way. */
typedef struct {
  mci_slot* slot; /* NULL: nothing */
  const void* from;
  uint64_t elements;
} mci_shared_slot;
#define MCI_SHARED_SLOTS 4 /* a peer gets no further ahead of the last one, which so finds its slices here */

/* One message (all slices of a chunk) that leaves on a lane. Slices below `ready` may go. */
typedef struct {
  mci_op* op;
  mci_view source;
  uint64_t elements;
  uint32_t nslices, next, ready;
  uint8_t buffer;  /* 0 in, 1 out, 2 scratch or bounce: whose region it lies in */
  bool no_lend;    /* COPY: by value or through staging only */
  bool staged;     /* slice `next` already stands in its slot */
  bool copying;    /* a copy into the slot is under way: token */
  uint16_t waited; /* how often slice `next` for peers that get the same */
  mci_slot* slot;  /* of slice `next`, NULL: none yet */
  uint64_t filled; /* elements of slice `next` copied into its slot */
  uint64_t token;
} mci_departure;

typedef struct {
  const void* data;
  uint64_t remote; /* not 0: what the peer lends at this address of its own is still to be read from there */
  uint32_t bytes, sequence, fingerprint;
  bool full, by_reference;
  bool puts;  /* the peer writes it to where it is asked to */
  bool asked; /* it was asked to and has not said that it has */
  bool got;   /* what is read of it has come */
} mci_arrival;

/* A slice that is lent by address, and the end of it that the receiver wants written to `to`. */
typedef struct {
  const char* at;
  uint64_t to; /* 0: nothing is to be written */
  uint32_t bytes, asked;
} mci_lent;

struct mci_peer;

/* Both directions between this rank and a peer on one channel. */
typedef struct mci_lane {
  struct mci_peer* peer;
  uint16_t channel;
  bool listed; /* on the engine's list of lanes with something to send */
  struct mci_lane* next_listed;
  /* out */
  mci_departure* departures; /* ring, capacity is a power of two */
  uint32_t cap_departures;
  uint64_t head, tail;                  /* absolute numbers */
  uint64_t sent, acked;                 /* slices */
  mci_op* in_flight[MCI_MAX_CREDITS];   /* whose memory slice number i % 64 lends, NULL none */
  uint64_t references;                  /* bit i % 64: slice i went by reference */
  mci_slot* slots_out[MCI_MAX_CREDITS]; /* where slice number i % 64 stands, NULL: not in a slot */
  mci_lent lent[MCI_MAX_CREDITS];       /* valid where a slice is asked for */
  uint64_t asks;                        /* bit i % 64: slice i is to be written to the peer's memory */
  /* in */
  mci_arrival arrivals[MCI_MAX_CREDITS];
  uint64_t arrived, consumed, ack_sent;
  bool ack_owed, ack_urgent; /* urgent: the peer's memory waits for it */
  char* slots;               /* places for payloads, one per credit, NULL until needed */
  uint64_t first_slot;       /* the arrival that took the first one */
  size_t slot_bytes;
  char* fetched; /* one slice that was read from the peer's memory, NULL until needed */
} mci_lane;

typedef struct {
  uint64_t id; /* region, 0: free entry */
  bool forget_owed;
} mci_announced;

typedef struct {
  void* base;
  uint64_t bytes;
  unsigned char key[MESHCCL_KEY_BYTES];
} mci_mapping;

typedef struct mci_peer {
  mci_engine* engine;
  uint32_t rank;
  uint32_t transport; /* index, valid when ep */
  void* ep;
  meshcclTransportFigures_t figures;
  size_t eager_bytes;       /* payloads up to here go by value */
  uint32_t credits;         /* of each lane, the same at both ends */
  bool raw;                 /* lent by address: this rank itself, or a peer of the process that cannot map */
  bool fetches;             /* it has said that it can read memory of this process by address */
  bool introduced;          /* our blob is on its way */
  bool broken;              /* nothing goes to it any more; the engine has failed or is about to */
  bool hello_owed, heard;   /* each side says hello once connected: who leaves earlier could not be reached any more */
  mci_announced* announced; /* own regions that the peer knows, by number */
  uint32_t nannounced, cap_announced;
  mci_mapping* mappings; /* the peer's regions, by its number */
  uint32_t nmappings, cap_mappings;
  uint32_t forgets_owed;
  mci_lane* last_lane; /* that a message came on */
  uint64_t bytes_sent, bytes_received;
} mci_peer;

typedef struct {
  mci_arg arg;
  mci_view view;
  mci_lane* lane;
  uint64_t departure; /* absolute number on its lane */
  char* room;         /* COPY destination of a fold: where the result stands until it has left */
} mci_operand_state;

typedef enum { MCI_CHAN_LOAD, MCI_CHAN_SLICE, MCI_CHAN_FOLDING, MCI_CHAN_DONE, MCI_CHAN_BRIEF } mci_chan_phase;
typedef struct mci_brief mci_brief;

typedef struct {
  const mci_channel* channel;
  mci_cursor cursor;
  const mci_instr* step;
  mci_chan_phase phase;
  uint64_t steps_done;
  uint64_t elements; /* of the step */
  uint32_t nslices, slice;
  bool is_send;      /* only local source, only lane destinations */
  bool step_pending; /* the cursor stands on a step that is not loaded yet */
  mci_operand_state* operands;
  mci_brief* brief; /* NULL: too long to be run so */
  uint64_t* tokens; /* folds under way */
  uint32_t ntokens, cap_tokens;
  mci_slot* slot;      /* that this slice is folded into, NULL: none */
  uint64_t staged_now; /* bit k: destination k, a lane, gets this slice from the slot */
  bool streamed;       /* the output of this slice may bypass the caches */
} mci_chan;

struct mci_run {
  mci_program* program;
  mci_chan* channels;
  uint32_t running;    /* channels not done */
  mci_op* op;          /* the operation that runs it */
  uint32_t pins;       /* holders, and operations queued or running with it */
  uint64_t slot_bytes; /* scratch */
  bool rereads_output; /* some step reads what an earlier one has stored in the output */
};

/* Shared memory that the engine cuts staging from. */
typedef struct {
  struct mci_shared_region region;
  size_t used;
} mci_arena;

typedef struct {
  mci_engine* engine;
  uint32_t index;
  void* ctx;
  meshcclTransportHost_t host;
} mci_port;

/* What is too dear to keep current: written when the engine idles (status.c), read without a lock. */
typedef struct {
  uint64_t events, started, since_ns, bytes;
  int32_t waits_for;
  uint32_t waits_operation, coll, step, nsteps, npeers;
  char over[16];
  mci_engine_peer peers[MCI_ENGINE_STATUS_PEERS];
} mci_engine_detail;
_Static_assert(sizeof(mci_engine_detail) % sizeof(uint64_t) == 0, "published word by word");

typedef struct {
  _Atomic uint64_t version; /* odd while it is being written */
  _Atomic uint64_t words[sizeof(mci_engine_detail) / sizeof(uint64_t)];
  uint64_t events, at_ns; /* the writer's: what stands there, since when */
} mci_published;

/* To be fetched. Who reads it takes no lock: what does not belong together is as good a hint as any. */
typedef struct {
  _Atomic(const void*) at;
  _Atomic uint32_t bytes;
} mci_lines;

struct mci_engine {
  mci_engine_options options;
  void* device_ctx;
  mci_port ports[MCI_MAX_TRANSPORTS];
  uint32_t nports;
  mci_peer** peers; /* ascending by rank */
  uint32_t npeers, cap_peers;
  mci_lane** lanes; /* hash table, open addressing */
  uint32_t nlanes, lane_slots;
  mci_lane* listed; /* lanes with departures or acks to send */
  mci_op *queue_head, *queue_tail;
  mci_op* active;
  uint32_t nactive;
  bool collective_active;
  uint32_t hellos_owed, unheard; /* connected peers */
  bool settled;                  /* all that the last brief channel sent was taken, and there is credit for more */
  _Atomic bool hurries;          /* others want the processor: one look, then back to the caller */
  _Atomic uint32_t apart;        /* collectives to come in which neither rank waits for the other to write */
  _Atomic uint32_t apart_span;   /* how many those were last time, less the collectives since */
  uint32_t short_rounds;         /* in which not all transports were asked */
  bool callers_first;            /* an operation has just ended: what its caller need not wait for comes later */
  uint32_t unconsumed;           /* messages that have come and no step has taken */
  uint32_t asked;                /* arrivals that peers have been asked to write where they belong */
  uint32_t references;           /* slices that peers still read where they stand: staging included */
  uint32_t sequence;             /* of the last collective started */
  mci_slot *slots, *free_slots, *last_free_slot;
  uint32_t nslots;
  mci_shared_slot shared[MCI_SHARED_SLOTS]; /* the last ones */
  uint32_t next_shared;
  mci_lines writes_next[2]; /* see mci_engine_fetch_ahead */
  mci_arena* arenas;
  uint32_t narenas, cap_arenas;
  struct mci_shared_region scratch, joined; /* of the running collective: its steps' memory, its parts in a row */
  uint64_t frees_seen;
  _Atomic uint64_t events; /* anything that moved: the watchdog's pulse */
  _Atomic uint64_t submitted, started, finished, bytes_sent, bytes_received;
  _Atomic uint32_t last_collective;
  uint64_t events_seen, events_since_ns;
  mci_published published;
  bool in_progress;
  meshcclResult_t held; /* a broken connection that is not reported yet */
  uint64_t held_since_ns;
  char held_text[1024]; /* "" while only what was under way on it is known to be lost */
  meshcclResult_t error;
  char error_text[1024];
  mci_engine_stats stats;
};

/* peer.c */
meshcclResult_t mci_peer_get(mci_engine* engine, uint32_t rank, mci_peer** out); /* asks for a connection when needed */
mci_peer* mci_peer_find(mci_engine* engine, uint32_t rank);
void mci_peer_destroy(mci_peer* peer);
/* The peer's number of a region of ours; announces it first. Busy: try later. */
meshcclResult_t mci_peer_announce(mci_peer* peer, const struct mci_shared_region* region, uint32_t* number_out);
void mci_peer_forget_freed(mci_engine* engine);
/* Says hello to those connected since the last time, as far as there is room. */
meshcclResult_t mci_peer_greet(mci_engine* engine);
meshcclResult_t mci_peer_map(mci_peer* peer, uint32_t number, uint64_t bytes, const void* key);
void mci_peer_unmap(mci_peer* peer, uint32_t number);
/* Nothing goes to the peer any more. Busy: held back for the grace; else reports it, with the operation that it hits,
 * and returns result. */
meshcclResult_t mci_peer_broke(mci_peer* peer, meshcclResult_t result, const char* why);
meshcclResult_t mci_peer_send(mci_peer* peer, const mci_header* header, const meshcclPiece_t* pieces, int npieces,
                              void* token);
/* Asks its transport where the next message to the peer will be written. */
void mci_peer_writes_next(const mci_peer* peer);
/* Reads the first `bytes` of what the arrival lends by address to where it is to stand. Busy: not yet. */
meshcclResult_t mci_peer_fetch(mci_peer* peer, mci_arrival* arrival, uint32_t bytes);
/* Writes to where the peer asked for it. Busy: it has failed and wants nothing any more. */
meshcclResult_t mci_peer_put(mci_peer* peer, uint64_t remote, const void* from, uint64_t bytes);
/* No peer writes any more what this rank has asked for. */
void mci_peer_refuse_puts(mci_engine* engine);

static inline bool mci_engine_keeps_apart(const mci_engine* engine) {
  return atomic_load_explicit(&engine->apart, memory_order_relaxed) > 0;
}

/* lane.c */
meshcclResult_t mci_lane_get(mci_engine* engine, uint32_t peer, uint16_t channel, mci_lane** out);
void mci_lane_destroy(mci_lane* lane);
meshcclResult_t mci_lane_push(mci_lane* lane, mci_op* op, const mci_view* source, uint8_t buffer, uint64_t elements,
                              uint32_t nslices, uint64_t* number_out);
static inline mci_departure* mci_lane_departure(mci_lane* lane, uint64_t number) {
  return &lane->departures[number & (lane->cap_departures - 1)];
}
/* Sends what credits allow. */
meshcclResult_t mci_lane_pump(mci_lane* lane);
void mci_lane_list(mci_lane* lane);
/* Whether slice `slice` of a departure could leave at once, by reference to a slot. */
bool mci_lane_takes_slot(const mci_lane* lane, uint64_t number, uint32_t slice);
/* The slice stands in this slot. */
void mci_lane_slot_filled(mci_lane* lane, uint64_t number, mci_slot* slot);
/* Before another collective begins, whose input may have changed. */
void mci_lane_forget_shared(mci_engine* engine);
void mci_lane_acked(mci_lane* lane, uint32_t ack);
static inline const mci_arrival* mci_lane_front(const mci_lane* lane) {
  const mci_arrival* front = &lane->arrivals[lane->consumed % MCI_MAX_CREDITS];
  return lane->consumed != lane->arrived && front->full ? front : NULL;
}
/* The same, when its bytes stand in this process: `to` or, when that is NULL, a place of the lane's own is where a slice
 * that the peer lends by address is brought to. The peer is asked to write the last `written` bytes of it there, the
 * others are read. *out is NULL while that is not done. */
meshcclResult_t mci_lane_fetch_front(mci_lane* lane, void* to, uint32_t written, const mci_arrival** out);
/* The peer asks for a slice that is lent to it; it has written what it was asked for. */
meshcclResult_t mci_lane_asked(mci_lane* lane, const mci_header* header);
meshcclResult_t mci_lane_was_put(mci_lane* lane, const mci_header* header);
void mci_lane_consume(mci_lane* lane);
uint64_t mci_slice_elements(const mci_engine* engine, const mci_op* op);
/* Whether the peer can map the memory of this departure. */
bool mci_lane_maps(const mci_lane* lane, const mci_departure* departure);
/* Whether slices of this departure can be lent to the peer where they stand. */
bool mci_lane_lends(const mci_lane* lane, const mci_departure* departure);

/* Sends a message of one slice that stands at `at`. Only after mci_lane_sends_now; what finds no room is copied and
 * queued. */
meshcclResult_t mci_lane_send_now(mci_lane* lane, mci_op* op, const char* at, uint64_t elements);
/* Whether a message of so many bytes can leave by value, with nothing before it on the lane. */
bool mci_lane_sends_now(const mci_lane* lane, uint64_t bytes);

/* arrive.c: the callbacks of transports */
void mci_port_host(mci_port* port);
/* engine.c */
#define MCI_TEXT_BYTES 160
const char* mci_op_text(const mci_op* op, char text[MCI_TEXT_BYTES]);
/* Remembers a broken connection, to be reported after the grace. False: to be reported now. */
bool mci_engine_hold(mci_engine* engine, meshcclResult_t result, const char* text);
mci_op* mci_engine_collective(mci_engine* engine); /* the collective under way, or NULL */
meshcclResult_t mci_mismatch(mci_engine* engine, const mci_op* op, const mci_lane* lane, const mci_arrival* arrival);

/* place.c: where a message may be received straight into the memory that the step waiting for it writes; NULL: nowhere.
 */
void* mci_place_of(const mci_lane* lane, const mci_header* header, size_t bytes);
/* The same for the front arrival of a lane that the channel's step waits for. */
void* mci_place_of_front(const mci_op* op, const mci_chan* chan, const mci_lane* lane);

/* channel.c */
meshcclResult_t mci_chan_run(mci_engine* engine, mci_run* run, mci_chan* chan, int* moved);
void mci_chan_explain(const mci_engine* engine, const mci_chan* chan, mci_str* out);

/* brief.c */
meshcclResult_t mci_brief_create(const mci_channel* channel, mci_brief** out); /* NULL: not for this channel */
/* When its messages are short enough: the channel's phase becomes MCI_CHAN_BRIEF. */
meshcclResult_t mci_brief_start(mci_engine* engine, const mci_run* run, mci_chan* chan);
meshcclResult_t mci_brief_run(mci_engine* engine, mci_run* run, mci_chan* chan, int* moved);
/* A message stands at the front of the lane, for as long as this runs: a channel that waits for it goes on. */
meshcclResult_t mci_brief_arrived(mci_engine* engine, const mci_lane* lane);
const mci_peer* mci_brief_waits_for(const mci_chan* chan);
/* Nothing has come yet, or more than one message comes before it sends again: not one of an exchange between two, which is
 * there at once when the other runs at the same time. */
bool mci_brief_gives_way(const mci_chan* chan);

/* The peer whose message the channel lacks, or NULL. */
const mci_peer* mci_chan_waits_for(const mci_chan* chan);

/* status.c */
#define MCI_PUBLISH_IDLE_NS 1000000u
/* From when on the owner is asked about an operation that does not move. */
static inline uint64_t mci_stall_look_ns(uint64_t limit_ns) { return MCI_MIN(limit_ns / 4, (uint64_t)1000000000); }

/* memory.c */
meshcclResult_t mci_slot_take(mci_engine* engine, mci_slot** out); /* one user */
void mci_slot_release(mci_engine* engine, mci_slot* slot);
/* Makes *region (the engine's scratch or joined) hold so many bytes; what stood in it is lost. */
meshcclResult_t mci_region_reserve(mci_engine* engine, struct mci_shared_region* region, size_t bytes);
/* parts.c: the parts of an operation to and from one vector. */
meshcclResult_t mci_parts_gather(mci_engine* engine, mci_op* op);
meshcclResult_t mci_parts_scatter(mci_engine* engine, mci_op* op);

/* Room that lives until the operation is finished. */
meshcclResult_t mci_bounce_alloc(mci_op* op, size_t bytes, void** out);
void mci_bounce_free_all(mci_op* op);
void mci_memory_fini(mci_engine* engine);
#endif
