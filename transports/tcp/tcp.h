/* What the files of the tcp transport share: contexts, endpoints, and what waits in the epoll set.
 *
 *     listener --> stranger (proves that it belongs here) --> endpoint, or parked until the host connects
 *     endpoint of the lower rank --> attempts, one per address --> endpoint
 *
 * Everything is driven by progress(); sockets never block. Sources that are closed inside a round of events stay
 * allocated until its end, because later events of the round may still point to them. */
#ifndef MCI_TCP_H
#define MCI_TCP_H

#include <sys/types.h>

#include "wire.h"

#define MCI_TCP_STRANGERS 64
#define MCI_TCP_STRANGER_NS 5000000000ull
#define MCI_TCP_QUEUE 32u     /* messages per endpoint that the socket has not taken yet */
#define MCI_TCP_COPY 512      /* payloads up to here are copied into the queue, longer ones stay where they are */
#define MCI_TCP_SCRATCH 65536 /* one read of small messages */
#define MCI_TCP_CAUSES 512

enum mci_tcp_kind { MCI_TCP_S_LISTENER, MCI_TCP_S_TIMER, MCI_TCP_S_STRANGER, MCI_TCP_S_ATTEMPT, MCI_TCP_S_EP };

struct mci_tcp_source {
  enum mci_tcp_kind kind;
  int fd; /* -1: closed */
};

struct mci_tcp_stranger {
  struct mci_tcp_source source;
  uint64_t deadline_ns;
  size_t got;
  bool challenged;
  unsigned char in[MCI_TCP_HELLO], nonce[MCI_TCP_NONCE], proof[MCI_TCP_PROOF];
  struct mci_tcp_stranger* next_gone;
};

/* A peer that has proved itself before the host connected to it. */
struct mci_tcp_parked {
  int fd;
  unsigned char token[MCI_TCP_TOKEN];
  struct mci_tcp_parked* next;
};

struct mci_tcp_attempt {
  struct mci_tcp_source source;
  struct mci_tcp_ep* ep;
  int address;
  enum { MCI_TCP_CONNECTING, MCI_TCP_SAID_HELLO, MCI_TCP_PROVED } state;
  uint64_t since_ns;
  size_t got;
  unsigned char hello[MCI_TCP_HELLO], in[MCI_TCP_CHALLENGE];
};

/* How an endpoint looks for its peer: addresses in the order of hope, each with a head start over the next. */
struct mci_tcp_dial {
  struct mci_tcp_attempt attempts[MESHCCL_MAX_NET_ADDRESSES];
  int order[MESHCCL_MAX_NET_ADDRESSES];
  int next, round;
  uint64_t next_ns; /* when the next attempt begins at the latest */
  bool resting;     /* between rounds */
  char causes[MCI_TCP_CAUSES];
  struct mci_tcp_dial* next_gone;
};

struct mci_tcp_item {
  unsigned char frame[MCI_TCP_FRAME];
  bool waited_for; /* send() returned InProgress */
  int npieces;
  void* token;
  size_t bytes; /* of frame and payload */
  meshcclPiece_t pieces[MESHCCL_MAX_PIECES];
  unsigned char copy[MCI_TCP_COPY];
};

struct mci_tcp_ep {
  struct mci_tcp_source source;
  struct mci_tcp_ctx* ctx;
  struct mci_tcp_ep *next, *next_gone;
  void* peer;
  int rank;
  struct mci_tcp_address address;
  bool connected;   /* the host's */
  bool searching;   /* neither established nor given up */
  bool established; /* the socket may carry messages */
  bool broken, peer_gone;
  bool writing;   /* counted in ctx->nwriting: has something queued */
  bool wants_out; /* EPOLLOUT is asked for */
  bool starved;   /* send() said Busy */
  bool goodbye, shut;
  int tx_error; /* errno that ended sending; the reading side says why */
  struct mci_tcp_dial* dial;
  /* out */
  struct mci_tcp_item* queue;
  uint64_t head, tail;
  size_t done, goodbye_done;  /* bytes of the first item (of the goodbye) that are gone */
  size_t segment;             /* what the system sends at once; 0: too little to care */
  uint32_t long_round, longs; /* the last round with a long message, and how many it had */
  bool rows;                  /* the one before had several */
  /* in */
  unsigned char frame[MCI_TCP_FRAME];
  size_t got;
  uint32_t left; /* bytes of the payload that have not come */
  bool drop;     /* this payload is not wanted */
  bool bulk;     /* the last payload was long: read little ahead */
  meshcclPlace_t places[MESHCCL_MAX_PIECES];
  int place, nplaces;
  void* token;
};

struct mci_tcp_ctx {
  const meshcclTransportHost_t* host;
  pid_t pid; /* of the process that opened it: a forked child only forgets */
  int epoll_fd;
  struct mci_tcp_source listener, timer;
  struct mci_tcp_address self;
  bool listening, paused; /* paused: strangers' places or descriptors are used up */
  uint64_t resume_ns, timer_ns;
  struct mci_tcp_stranger* strangers[MCI_TCP_STRANGERS];
  int nstrangers;
  struct mci_tcp_parked* parked;
  struct mci_tcp_ep* all;
  struct mci_tcp_ep** live; /* established */
  uint32_t nlive, cap_live;
  uint32_t nsearching, nwriting, nfailing; /* endpoints: not established; with output; whose sending failed */
  bool armed;
  uint32_t turn, round; /* of looks at few; of progress() */
  struct mci_tcp_ep* gone_eps;
  struct mci_tcp_dial* gone_dials;
  struct mci_tcp_stranger* gone_strangers;
  unsigned char scratch[MCI_TCP_SCRATCH];
};

/* context.c */
meshcclResult_t mci_tcp_fail(const struct mci_tcp_ctx* ctx, meshcclResult_t result, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
void mci_tcp_log(const struct mci_tcp_ctx* ctx, int level, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
uint64_t mci_tcp_now_ns(void);
bool mci_tcp_watch(struct mci_tcp_ctx* ctx, int fd, uint32_t events, struct mci_tcp_source* source);
void mci_tcp_unwatch(struct mci_tcp_ctx* ctx, struct mci_tcp_source* source); /* and closes it */
void mci_tcp_wake_at(struct mci_tcp_ctx* ctx, uint64_t when_ns);
void mci_tcp_prove(const struct mci_tcp_ctx* ctx, int role, const unsigned char hello[MCI_TCP_HELLO],
                   const unsigned char nonce[MCI_TCP_NONCE], unsigned char proof[MCI_TCP_PROOF]);
/* dial.c */
bool mci_tcp_dial_begin(struct mci_tcp_ep* ep);
void mci_tcp_dial_step(struct mci_tcp_ep* ep, uint64_t now_ns);
int mci_tcp_attempt_event(struct mci_tcp_attempt* attempt);
void mci_tcp_dial_end(struct mci_tcp_ep* ep);
/* Writes all of a handshake message; false with errno. */
bool mci_tcp_say(int fd, const void* data, size_t bytes);
/* strangers.c */
int mci_tcp_listener_event(struct mci_tcp_ctx* ctx);
int mci_tcp_stranger_event(struct mci_tcp_ctx* ctx, struct mci_tcp_stranger* stranger);
void mci_tcp_strangers_step(struct mci_tcp_ctx* ctx, uint64_t now_ns);
void mci_tcp_strangers_close(struct mci_tcp_ctx* ctx);
/* The socket of a peer that came before; -1: none. */
int mci_tcp_claim_parked(struct mci_tcp_ctx* ctx, const unsigned char token[MCI_TCP_TOKEN]);
/* endpoint.c */
meshcclResult_t mci_tcp_connect(void* ctx, void* peer, int peerRank, const void* address, size_t bytes, void** ep);
void mci_tcp_disconnect(void* ep);
void mci_tcp_established(struct mci_tcp_ep* ep, int fd); /* not watched yet */
void mci_tcp_break(struct mci_tcp_ep* ep, const char* format, ...) __attribute__((format(printf, 2, 3)));
void mci_tcp_hang_up(struct mci_tcp_ep* ep); /* closes the socket and takes the endpoint off the lists */
void mci_tcp_ep_release(struct mci_tcp_ep* ep);
/* output.c */
meshcclResult_t mci_tcp_send(void* ep, const void* header, const meshcclPiece_t* pieces, int npieces, void* token);
int mci_tcp_flush(struct mci_tcp_ep* ep);
void mci_tcp_update_writing(struct mci_tcp_ep* ep);
void mci_tcp_watch_room(struct mci_tcp_ep* ep, bool wanted);            /* whether room in the socket wakes a sleeper */
void mci_tcp_drop_queue(struct mci_tcp_ep* ep, meshcclResult_t result); /* calls sent() where the host waits for it */
/* input.c */
int mci_tcp_read(struct mci_tcp_ep* ep);
/* progress.c */
void mci_tcp_release_gone(struct mci_tcp_ctx* ctx);
int mci_tcp_progress(void* ctx);
meshcclResult_t mci_tcp_wait_handle(void* ctx, int* fd, uint32_t* poll_us);
meshcclResult_t mci_tcp_arm(void* ctx);
#endif
