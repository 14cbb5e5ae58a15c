/* Inside of src/boot: packets, links and the state of one rank in a control tree. Nobody outside the folder includes
 * it.
 *
 * Locking: every function that takes a mci_boot or a mci_control_link wants boot->lock held, unless it says otherwise.
 * Order of locks: the service's lock, then boot->lock, then the globals' lock.
 *
 * Sockets are SEQPACKET: a frame is one packet, so a connection can be handed to another process between two frames
 * (leave.c) and nothing is ever half read. */
#ifndef MCI_BOOT_CONTROL_H
#define MCI_BOOT_CONTROL_H

#include <pthread.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "boot/boot.h"

#define MCI_CONTROL_ARITY 16
#define MCI_CONTROL_TEXT 512
#define MCI_CONTROL_KIN 96
#define MCI_CONTROL_FDS 200                   /* connections handed over in one packet; the kernel takes 253 */
#define MCI_CONTROL_STRANGERS 64              /* peers that have not proved themselves yet: places, */
#define MCI_CONTROL_STRANGER_BYTES 4096       /* bytes they may send */
#define MCI_CONTROL_STRANGER_NS 5000000000ull /* and time they have */
#define MCI_CONTROL_MISSING 16

/* ---- packets ---- */
typedef enum {
  FRAME_HELLO = 1, /* joiner: who it is, and a nonce */
  FRAME_CHALLENGE, /* listener: its own nonce and its proof */
  FRAME_PROOF,     /* joiner: its proof */
  FRAME_ANSWER,    /* listener: mci_verdict, kind = mci_answer */
  FRAME_MESSAGE,   /* mci_boot_send, routed */
  FRAME_FAIL,      /* mci_verdict, flooded */
  FRAME_UP,        /* the subtree is complete: mci_up */
  FRAME_NEED_TEXT, /* parent to child: its hash differs, send the text of agree */
  FRAME_TEXT,      /* a piece of that text; kind = 1: the last one */
  FRAME_MISSING,   /* child to parent: mci_missing */
  FRAME_EXPIRED,   /* a rank's time to join is over: up to the root, which knows most */
  FRAME_DOWN,      /* everybody is there, flooded */
  FRAME_HERE,      /* mci_here: who is at this end of the link */
  FRAME_MOVED,     /* mci_here: this end goes to that rank */
  FRAME_ADOPT,     /* some of a leaving rank's connections: mci_member[] and as many descriptors */
  FRAME_LEAVE,     /* the last of them, and goodbye; kind = 1: one more descriptor, a file of unsent frames */
  FRAME_GATHER,    /* mci_boot_allgather, to the parent; kind = sequence */
  FRAME_SPREAD,    /* its result, flooded from the root */
  FRAME_ASK,       /* mci_ask, routed to a rank that is waited for */
  FRAME_TELL,      /* mci_tell, routed back; also from where the rank asked turned out to be gone */
  FRAME_ACCUSE,    /* mci_verdict, up to the root, which makes it the failure */
  FRAME_QUERY,     /* int32_t: the rank that wants the status of all; kind = sequence, flooded */
  FRAME_STATUS     /* mci_rank_status, routed to that rank; kind = sequence */
} mci_frame_type;

/* `to` is the rank that a frame is routed to, or -1: whoever is at the other end of the link. */
typedef struct {
  uint16_t type, kind;
  int32_t from, to;
  uint32_t bytes;
} mci_header;

typedef struct mci_frame {
  struct mci_frame* next;
  mci_header header;
  unsigned char data[];
} mci_frame;

typedef struct {
  mci_frame *head, *tail;
} mci_frames;

typedef struct {
  mci_header header;
  unsigned char data[MCI_BOOT_MESSAGE_MAX];
  int fds[MCI_CONTROL_FDS + 1];
  int nfds;
} mci_packet;

typedef struct {
  int32_t rank, result;
  char text[MCI_CONTROL_TEXT];
} mci_verdict;

typedef enum { ANSWER_WELCOME, ANSWER_REDIRECT, ANSWER_WAIT, ANSWER_REFUSE } mci_answer;

typedef struct {
  uint64_t hash; /* of agree */
  mci_verdict verdict;
} mci_up;

typedef struct {
  int32_t count; /* of ranks below; more than MCI_CONTROL_MISSING are only counted */
  int32_t ranks[MCI_CONTROL_MISSING];
} mci_missing;

typedef struct {
  int32_t rank, pid, reply;  /* reply: the receiver says who it is, too */
  char kin[MCI_CONTROL_KIN]; /* other ranks of the same process */
} mci_here;

typedef struct {
  int32_t rank, pid;
} mci_member;

#define MCI_CONTROL_ASKERS 32
typedef struct {
  int32_t asked; /* the rank */
  uint32_t operation;
} mci_ask;

typedef struct {
  mci_ask question; /* that this answers */
  mci_blame blame;
} mci_tell;

/* ---- one connection ---- */
typedef enum { LINK_HELLO, LINK_PROOF, LINK_ACTIVE, LINK_ADOPTED, LINK_GONE } mci_control_link_state;

typedef enum { SOURCE_LISTENER, SOURCE_ATTENTION, SOURCE_LINK, SOURCE_PROCESS } mci_source_kind;
typedef struct {
  mci_source_kind kind;
  struct mci_control_link* link;
} mci_source; /* what an epoll event points at */

typedef struct mci_control_link {
  struct mci_control_link* next;
  mci_boot* boot;
  mci_source socket_source, process_source;
  int fd, pidfd;
  int rank;    /* of the peer; -1 while unknown */
  int32_t pid; /* of the peer's process; 0 while unknown */
  mci_control_link_state state;
  bool closed_inward; /* this end takes no more packets (leaving) */
  bool waiting_out;   /* EPOLLOUT is armed */
  mci_frames out;
  struct mci_control_link* adopted; /* handed over by the peer, which has not said LEAVE yet */
  char kin[MCI_CONTROL_KIN];
  /* before the peer has proved itself */
  uint64_t deadline_ns;
  size_t stranger_bytes;
  unsigned char joiner_nonce[32], own_nonce[32];
  int joiner_nranks;
  /* while joining */
  bool complete;
  mci_str text;
  mci_missing missing;
} mci_control_link;

/* ---- what a rank knows about whom it waits for (status.c) ---- */
typedef struct {
  void (*read)(void* self, mci_rank_status* out);
  void* self;
  bool was_set;
  mci_ask question;                            /* the last one of this rank, */
  uint64_t first_ns, asked_ns, heard_ns;       /* since when, when last; 0: never */
  mci_blame answer;
  int naskers;                                 /* who waits for the answer, too */
  struct {
    int32_t rank;
    mci_ask question;
  } askers[MCI_CONTROL_ASKERS];
  uint16_t query;                              /* sequence of the last one for observers */
} mci_status_state;

/* ---- one rank ---- */
struct mci_boot {
  pthread_mutex_t lock;
  pthread_cond_t changed; /* not threadless: anything a blocked caller may wait for */
  mci_id id;
  int rank, nranks;
  bool threadless;
  uint32_t generation; /* of the process, see mci_fork_generation */
  char name[48];
  char kin[MCI_CONTROL_KIN]; /* other ranks of this process */
  char* agree;
  int epoll_fd, attention_fd, listen_fd;
  mci_source listener_source, attention_source;
  bool listener_paused;
  int nstrangers;
  mci_control_link *links, *parent; /* parent is one of links, NULL at the root and in a part cut off by a death */
  mci_control_link* trash;          /* closed links, freed when no event can point at them */

  _Atomic uint32_t attention;
  bool attention_shown; /* attention_fd is readable */
  mci_frames inbox, gathers, spreads;
  uint16_t gather_sequence;

  mci_verdict failure; /* result is Success while there is none */

  /* while joining */
  bool open; /* everybody is there */
  bool up_sent;
  const atomic_int* cancelled; /* see mci_boot_options */
  uint32_t informed;     /* children that know of the failure, one bit each */
  _Atomic int waits_for; /* the rank whose listener did not answer; written while not locked */
  mci_verdict verdict;
  mci_missing told;

  mci_status_state status;
  struct mci_observers* observers; /* of the service that serves this tree; NULL: none */

  /* the service's list */
  struct mci_boot* next;
};

/* ---- observers: what travels between `meshccl top` and a process of the job ---- */
#define MCI_OBSERVERS 4
typedef struct {
  uint32_t version;
  unsigned char name[32], nonce[32]; /* of the id: public */
} mci_observer_hello;
typedef struct {
  int32_t rank, nranks;
  char name[48];
  char text[MCI_CONTROL_TEXT]; /* why not, when kind is not ANSWER_WELCOME */
} mci_observer_answer;
void mci_observe_address(int32_t pid, struct sockaddr_un* out, socklen_t* length);

/* ---- id.c, auth.c ---- */
const unsigned char* mci_id_name(const mci_id* id);
const unsigned char* mci_id_secret(const mci_id* id);
void mci_id_seal(mci_id* id); /* after each change */
/* MADE: the process that made the id listens for rank 0; NAMED: rank 0 is to listen at this port. */
typedef enum { MEETING_NONE, MEETING_MADE, MEETING_NAMED } mci_meeting;
void mci_id_set_meeting(mci_id* id, mci_meeting kind, uint16_t port, const mci_net_addresses* addresses);
mci_meeting mci_id_get_meeting(const mci_id* id, mci_net_addresses* out);
uint16_t mci_id_meeting_port(const mci_id* id);
void mci_auth_nonce(unsigned char nonce[32]);
typedef enum { PROOF_OF_LISTENER, PROOF_OF_JOINER, PROOF_OF_OBSERVED, PROOF_OF_OBSERVER } mci_proof_role;
void mci_auth_prove(const mci_id* id, mci_proof_role role, int listener, int joiner,
                    const unsigned char listener_nonce[32], const unsigned char joiner_nonce[32],
                    unsigned char proof[32]);
bool mci_auth_equal(const unsigned char a[32], const unsigned char b[32]);
/* The abstract address of a rank's listener. */
void mci_auth_address(const mci_id* id, int rank, struct sockaddr_un* out, socklen_t* length);

typedef struct {
  uint32_t version;
  int32_t rank, nranks, target;
  unsigned char nonce[32];
} mci_hello;
typedef struct {
  unsigned char nonce[32], proof[32];
} mci_challenge;
#define MCI_HELLO_VERSION 0x6d636901u

/* ---- link.c ---- */
/* Takes fd over when it succeeds. An ADOPTED link is not listened to yet. */
meshcclResult_t mci_control_link_create(mci_boot* boot, int fd, mci_control_link_state state, int rank,
                                        mci_control_link** out);
meshcclResult_t mci_control_link_listen(mci_control_link* link);
/* Notices the end of the peer's process even where a forked child keeps the socket open. 0: stops that. */
void mci_control_link_watch(mci_control_link* link, int32_t pid);
bool mci_control_link_process_over(const mci_control_link* link); /* the peer's process has ended */
void mci_control_link_drop(mci_control_link* link); /* closes; memory stays valid until mci_control_link_free_trash */
void mci_control_link_free_trash(mci_boot* boot);
/* Never blocks: queues what the socket does not take. Fails for want of memory only. */
meshcclResult_t mci_control_link_send(mci_control_link* link, const mci_header* header, const void* data);
void mci_control_link_flush(mci_control_link* link);
/* One packet: 1; nothing there: 0; the other end is closed: -1. */
int mci_control_link_read(mci_control_link* link, mci_packet* packet);
/* Handles what has arrived, a bounded number of packets. True: there may be more. */
bool mci_control_link_serve(mci_control_link* link);
/* Lets the socket buffer more (for the last words of a leaving rank) or the usual amount. */
void mci_control_link_reserve(mci_control_link* link, bool more);
int mci_socket_read(int fd, mci_packet* packet, bool take_fds);
int32_t mci_socket_peer(int fd, uid_t* uid); /* pid, 0 when it cannot be told */
meshcclResult_t mci_frames_push(mci_frames* frames, const mci_header* header, const void* data);
mci_frame* mci_frames_pop(mci_frames* frames);
void mci_frames_clear(mci_frames* frames);

/* ---- control.c ---- */
meshcclResult_t mci_control_create(const mci_id* id, const mci_boot_options* options, mci_boot** out);
void mci_control_destroy(mci_boot* boot); /* lock not held */
static inline int mci_control_parent(int rank) { return (rank - 1) / MCI_CONTROL_ARITY; }
int mci_control_children(const mci_boot* boot);       /* of a full tree */
void mci_control_informed(mci_boot* boot, int child); /* it knows of the failure */
mci_control_link* mci_control_find(mci_boot* boot, int rank);
/* The link that leads to `to`; NULL: it has left, is dead or has not joined. */
mci_control_link* mci_control_towards(mci_boot* boot, int to);
void mci_control_route(mci_boot* boot, const mci_header* header, const void* data);
void mci_control_dispatch(mci_control_link* link, mci_packet* packet);
/* Routes a frame, or handles one that does not concern a link. False: neither. */
bool mci_control_take(mci_boot* boot, const mci_packet* packet);
/* To the other end of one link, whoever that is. A failure to do so is this rank's failure. */
void mci_control_tell(mci_control_link* link, mci_frame_type type, uint16_t kind, const void* data, size_t bytes);
/* Makes the verdict this rank's failure unless it has one, and floods it if it was news. */
void mci_control_fail(mci_boot* boot, const mci_verdict* verdict);
void mci_control_failf(mci_boot* boot, int rank, meshcclResult_t result, const char* format, ...) MCI_PRINTF(4, 5);
void mci_control_lost(mci_control_link* link);          /* the peer is gone without a goodbye */
void mci_control_arrived(mci_boot* boot);               /* for the owner: a message or a failure is there */
void mci_control_check_process(mci_control_link* link); /* lost when the peer's process is over without a goodbye */
void mci_control_changed(mci_boot* boot);
void mci_control_progress(mci_boot* boot);                /* handles all events that are ready */
void mci_control_wait(mci_boot* boot, uint64_t until_ns); /* sleeps until something may have changed */
meshcclResult_t mci_control_failure(mci_boot* boot);      /* forwards the sticky failure, or Success */
/* InvalidUsage when the tree was made before a fork of this process. Lock not held. */
meshcclResult_t mci_control_usable(const mci_boot* boot);

/* ---- accept.c ---- */
meshcclResult_t mci_accept_start(mci_boot* boot, bool* taken); /* taken: somebody else has the name */
void mci_accept_stop(mci_boot* boot);
void mci_accept_progress(mci_boot* boot);
void mci_accept_drop(mci_control_link* link); /* a stranger */
void mci_accept_expire(mci_boot* boot);       /* strangers whose time is over */
void mci_accept_packet(mci_control_link* link, const mci_packet* packet);

/* ---- agree.c ---- */
void mci_agree_try_up(mci_boot* boot);
void mci_agree_up(mci_control_link* link, const mci_packet* packet);
void mci_agree_text(mci_control_link* link, const mci_packet* packet);
void mci_agree_send_text(mci_boot* boot);
void mci_agree_open(mci_boot* boot);
void mci_agree_missing(mci_boot* boot, mci_missing* out);
void mci_agree_expired(mci_boot* boot); /* names what is missing, on every rank */

/* ---- leave.c ---- */
void mci_leave_hand_over(mci_boot* boot);
void mci_leave_moved(mci_control_link* link, const mci_packet* packet);
void mci_leave_here(mci_control_link* link, const mci_packet* packet);
void mci_leave_packet(mci_control_link* link, mci_packet* packet); /* ADOPT and LEAVE */

/* ---- status.c ---- */
void mci_status_take(mci_boot* boot, const mci_packet* packet); /* ASK, TELL, STATUS, ACCUSE */
void mci_status_unreachable(mci_boot* boot, const mci_header* header, const void* data); /* an ASK without a way */
void mci_status_query(mci_boot* boot, const mci_control_link* from, int asker, uint16_t sequence);

/* ---- observe.c ---- under the service's lock */
struct mci_observers* mci_observe_start(void); /* NULL: without them, said in the log */
void mci_observe_stop(struct mci_observers* observers);
int mci_observe_fd(const struct mci_observers* observers);
void mci_observe_serve(struct mci_observers* observers, mci_boot* boots);
void mci_observe_forget(struct mci_observers* observers, const mci_boot* boot);
/* A rank's status came, for query `sequence` of this tree; boot is locked. */
void mci_observe_status(struct mci_observers* observers, const mci_boot* boot, uint16_t sequence,
                        const mci_rank_status* status);

/* ---- service.c ---- lock not held */
meshcclResult_t mci_service_add(mci_boot* boot);
void mci_service_remove(mci_boot* boot);
void mci_service_kin(mci_boot* boot, char* text, size_t size);
#endif
