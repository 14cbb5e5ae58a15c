/* Inside of src/boot: packets, links and the state of one rank in a control tree. Nobody outside the folder includes
 * it.
 *
 * Locking: every function that takes a mci_boot or a mci_control_link wants boot->lock held, unless it says otherwise.
 * Order of locks: the service's lock, then boot->lock, then the globals' lock.
 *
 * Sockets are unix SEQPACKET between ranks of one host, where a frame is a packet, and TCP between hosts, where the
 * beginning of a frame that arrives and the end of one that leaves are kept at the link. A connection of either kind can
 * be handed to another process of the host, with these (leave.c). Frames travel in the byte order of their host; a
 * peer of the other order is
 * refused, because it speaks another version of the hello. */
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
#define MCI_CONTROL_DEPTH 9 /* of a tree of 2^31 ranks, and one more */
#define MCI_CONTROL_HOST 48
#define MCI_CONTROL_REST (16 + MCI_BOOT_MESSAGE_MAX + 64) /* a frame, and MOVED behind it (leave.c) */

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
  FRAME_MOVED,     /* int32_t: this end goes to that rank */
  FRAME_ADOPT,     /* some of a leaving rank's connections: mci_member[] and as many descriptors */
  FRAME_LEAVE,     /* the last of them, and goodbye; kind = 1: one more descriptor, a file of unsent frames */
  FRAME_GATHER,    /* mci_boot_allgather, to the parent; kind = sequence */
  FRAME_SPREAD,    /* its result, flooded from the root */
  FRAME_ASK,       /* mci_ask, routed to a rank that is waited for */
  FRAME_TELL,      /* mci_tell, routed back; also from where the rank asked turned out to be gone */
  FRAME_ACCUSE,    /* mci_verdict, up to the root, which makes it the failure */
  FRAME_QUERY,     /* int32_t: the rank that wants the status of all; kind = sequence, flooded */
  FRAME_STATUS,    /* mci_rank_status, routed to that rank; kind = sequence */
  FRAME_BEAT,      /* a sign of life */
  /* leaving where descriptors cannot be passed on, see depart.c */
  FRAME_LEAVING,  /* to the heir: mci_member[], who shall be yours; kind = 1: all are named */
  FRAME_RELEASE,  /* the heir's last word to the one that leaves */
  FRAME_REATTACH, /* last word to the others: mci_chain, where to go */
  FRAME_DETACHED, /* their last word */
  FRAME_LEFT,     /* to the heir: int32_t, one of those named has left itself */
  FRAME_BYE       /* last word of all, and goodbye */
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
  size_t have;
  unsigned char bytes[sizeof(mci_header) + MCI_BOOT_MESSAGE_MAX];
} mci_stream;

typedef struct {
  int32_t rank, result;
  char text[MCI_CONTROL_TEXT];
} mci_verdict;

/* Where a rank is. */
typedef struct {
  int32_t rank, pid;
  uint64_t host; /* 0: unknown */
  uint8_t threadless, naddresses, unused[6];
  char name[MCI_CONTROL_HOST]; /* of the host */
  unsigned char addresses[MCI_NET_MAX][MCI_NET_PACKED_BYTES];
} mci_place;

/* A rank and those above it up to the root, as far as they have addresses. */
typedef struct {
  uint32_t spans; /* the job may span hosts: listen for TCP, too */
  int32_t n;
  mci_place at[MCI_CONTROL_DEPTH];
} mci_chain;

/* WELCOME with a mci_chain, REDIRECT and WAIT with the mci_place to ask or wait for, REFUSE with a mci_verdict. */
typedef enum { ANSWER_WELCOME, ANSWER_REDIRECT, ANSWER_WAIT, ANSWER_REFUSE } mci_answer;

typedef struct {
  uint64_t hash;   /* of agree */
  int32_t several; /* hosts below */
  int32_t unused;
  mci_verdict verdict;
} mci_up;

typedef struct {
  int32_t count; /* of ranks below; more than MCI_CONTROL_MISSING are only counted */
  int32_t ranks[MCI_CONTROL_MISSING];
} mci_missing;

typedef struct {
  int32_t reply, unused;     /* reply: the receiver says who it is, too */
  char kin[MCI_CONTROL_KIN]; /* other ranks of the same process */
  mci_place place;
} mci_here;

typedef enum { MEMBER_THREADLESS = 1, MEMBER_CONNECTED = 2, MEMBER_UNUSUAL = 4 } mci_member_flags;
typedef struct {
  int32_t rank, pid;
  uint32_t flags;
  uint16_t have; /* bytes of a frame that is arriving, */
  uint16_t rest; /* and of one whose beginning is sent */
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
/* HELLO and PROOF: strangers; ENDING: all is said but not all is sent. */
typedef enum { LINK_HELLO, LINK_PROOF, LINK_ACTIVE, LINK_ADOPTED, LINK_ENDING, LINK_GONE } mci_control_link_state;

typedef enum {
  SOURCE_LISTENER,
  SOURCE_ATTENTION,
  SOURCE_LINK,
  SOURCE_PROCESS,
  SOURCE_TIMER,
  SOURCE_DIAL
} mci_source_kind;
typedef struct {
  mci_source_kind kind;
  int listener;
  struct mci_control_link* link;
} mci_source; /* what an epoll event points at */

typedef struct mci_control_link {
  struct mci_control_link* next;
  mci_boot* boot;
  mci_source socket_source, process_source;
  int fd, pidfd; /* fd -1: the peer is still to come (attach.c), and frames for it wait in out */
  bool tcp;
  int rank;    /* of the peer; -1 while unknown */
  int32_t pid; /* of the peer's process; 0 while unknown */
  mci_control_link_state state;
  bool closed_inward; /* this end takes no more packets (leaving) */
  bool waiting_out;   /* EPOLLOUT is armed */
  bool muted;         /* the last word to the peer is said */
  bool spoken;        /* something was sent since the last beat */
  uint64_t heard_ns;  /* when the peer last gave a sign of life */
  mci_frames out;
  mci_stream* in;      /* TCP: the beginning of a frame that is arriving, */
  unsigned char* rest; /* and the end of one whose beginning the kernel has taken */
  size_t rest_bytes;
  mci_place place; /* of the peer */
  /* a peer that is still to come */
  int via;                          /* its old neighbour, whose goodbye must be here first; -1: it is */
  bool second_hand;                 /* it was another rank's to wait for, before */
  uint64_t since_ns;                /* may come since then; 0: not yet */
  struct mci_control_link* adopted; /* handed over by the peer, which has not said LEAVE yet */
  char kin[MCI_CONTROL_KIN];
  /* before the peer has proved itself */
  uint64_t deadline_ns;
  size_t stranger_bytes;
  unsigned char joiner_hash[32], own_nonce[32];
  int joiner_nranks;
  bool attaches;
  /* while joining */
  bool complete, several;
  mci_str text;
  mci_missing missing;
} mci_control_link;

/* ---- what a rank knows about whom it waits for (status.c) ---- */
typedef struct {
  void (*read)(void* self, mci_rank_status* out);
  void* self;
  bool was_set;
  mci_ask question;                      /* the last one of this rank, */
  uint64_t first_ns, asked_ns, heard_ns; /* since when, when last; 0: never */
  mci_blame answer;
  uint32_t way_heard; /* ranks on the way to it that have answered since; one bit each */
  int naskers;        /* who waits for the answer, too */
  struct {
    int32_t rank;
    mci_ask question;
  } askers[MCI_CONTROL_ASKERS];
  uint16_t query; /* sequence of the last one for observers */
} mci_status_state;

/* ---- asking to be let in (dial.c): one connection to one listener ---- */
typedef struct {
  uint32_t version;
  int32_t rank, nranks, target;
  uint32_t attaches, unused; /* not a joiner, but a member whose neighbour has left */
  unsigned char nonce[32];
  mci_place place;
} mci_hello;

/* FAILED: for good, with an error. DOWN: perhaps later; `trouble` says why. */
typedef enum { DIAL_BUSY, DIAL_ANSWERED, DIAL_DOWN, DIAL_FAILED } mci_dial_state;
typedef struct {
  int fd;
  bool tcp, refused; /* refused: nobody listens there */
  bool asked, trusted;
  mci_stream in;
  int epoll_fd; /* that the socket is in; 0: none */
  int32_t pid;
  uint64_t until_ns;
  mci_hello hello;
  char where[80];
  char trouble[200];
} mci_dial;

/* ---- coming back after a neighbour has left (attach.c) ---- */
typedef struct {
  bool active;
  mci_source source;
  mci_dial dial; /* fd -1: waits for due_ns */
  uint64_t began_ns, due_ns;
  int candidate, round;
  bool hope; /* in this round somebody listened, or may do so */
  char trouble[200];
} mci_attach;

typedef struct {
  int fd;
  mci_source source;
  mci_net_addresses allowed; /* TCP: by which peers may come in */
} mci_listener;
/* UNIX and ROOT until everybody has joined; TCP for life in a job that spans hosts. */
enum { LISTEN_UNIX, LISTEN_ROOT, LISTEN_TCP, MCI_LISTENERS };

typedef enum { DEPART_NOT, DEPART_ASKED, DEPART_RELEASED } mci_depart_phase;

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
  int epoll_fd, attention_fd, timer_fd;
  mci_source attention_source, timer_source;
  mci_listener listeners[MCI_LISTENERS];
  bool listeners_paused;
  uint64_t paused_until_ns; /* for want of descriptors; 0: for want of places */
  int nstrangers;
  mci_place self;
  mci_chain above;                  /* the parent and those above it, at the time when they were heard of */
  bool spans;                       /* ranks are, or may be, on several hosts */
  bool ready;                       /* may let others in */
  mci_control_link *links, *parent; /* parent is one of links, NULL at the root and in a part cut off by a death */
  mci_control_link* trash;          /* closed links, freed when no event can point at them */

  _Atomic uint32_t attention;
  bool attention_shown; /* attention_fd is readable */
  mci_frames inbox, gathers, spreads;
  uint16_t gather_sequence;

  mci_verdict failure; /* result is Success while there is none */

  /* signs of life (beat.c) */
  uint64_t silence_ns, beat_ns, beaten_ns, timer_due_ns;

  /* leaving, and neighbours that leave */
  mci_attach attach;
  mci_depart_phase phase;
  uint64_t depart_ns; /* when it began */
  mci_control_link* heir;

  /* while joining */
  bool open; /* everybody is there */
  bool up_sent;
  const atomic_int* cancelled; /* see mci_boot_options */
  uint32_t informed;           /* children that know of the failure, one bit each */
  _Atomic int waits_for;       /* the rank whose listener did not answer; written while not locked */
  char trouble[360];           /* what was tried in vain over TCP */
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
/* The abstract address of a rank's listener on a host. */
void mci_auth_address(const mci_id* id, uint64_t host, int rank, struct sockaddr_un* out, socklen_t* length);
/* What a hello says is bound to the proofs: this stands for the joiner's nonce in them. */
void mci_auth_hash(const mci_hello* hello, unsigned char hash[32]);

typedef struct {
  unsigned char nonce[32], proof[32];
} mci_challenge;
#define MCI_HELLO_VERSION 0x6d636902u

/* ---- root.c ---- */
typedef struct {
  const char *variable, *host; /* that names the host */
  uint16_t port;
  int rank;     /* this one */
  bool certain; /* ranks are on other hosts */
} mci_root_choice;
meshcclResult_t mci_root_name(const mci_root_choice* choice, mci_id* id);
meshcclResult_t mci_root_from_variable(int rank, mci_id* id, bool* named); /* MESHCCL_ROOT */
meshcclResult_t mci_root_from_master(int rank, bool certain, mci_id* id);  /* MASTER_ADDR and its port */

/* ---- socket.c ---- */
/* One packet or whole frame: 1; nothing there: 0; the other end is closed or talks nonsense: -1. */
int mci_socket_read(int fd, mci_packet* packet, bool take_fds);
int mci_stream_read(int fd, mci_stream* in, mci_packet* packet);
bool mci_socket_is_tcp(int fd);
int32_t mci_socket_peer(int fd, uid_t* uid); /* pid, 0 when it cannot be told */
meshcclResult_t mci_frames_push(mci_frames* frames, const mci_header* header, const void* data);
mci_frame* mci_frames_pop(mci_frames* frames);
void mci_frames_clear(mci_frames* frames);

/* ---- dial.c ---- boot->lock is not needed */
/* NULL for address: the unix socket of to->rank on this host. */
void mci_dial_start(mci_boot* boot, int target, const meshcclNetAddress_t* address, bool attaches, uint64_t until_ns,
                    mci_dial* out);
mci_dial_state mci_dial_progress(mci_boot* boot, mci_dial* dial, mci_packet* packet);
short mci_dial_events(const mci_dial* dial);
int mci_dial_take(mci_dial* dial); /* the connection, which is the caller's now */
void mci_dial_close(mci_dial* dial);
/* The payload of an answer of that size; false: it is none. */
bool mci_dial_chain(const mci_packet* packet, mci_chain* out);
bool mci_dial_place(const mci_packet* packet, mci_place* out);
void mci_place_addresses(const mci_place* place, mci_net_addresses* out);

/* ---- link.c ---- */
/* Takes fd over when it succeeds; fd -1: a link whose peer is still to come. An ADOPTED link is not listened to yet. */
meshcclResult_t mci_control_link_create(mci_boot* boot, int fd, mci_control_link_state state, int rank,
                                        mci_control_link** out);
meshcclResult_t mci_control_link_listen(mci_control_link* link);
/* The peer has come. Takes fd over also when it fails. */
meshcclResult_t mci_control_link_connect(mci_control_link* link, int fd);
bool mci_control_link_unsent(const mci_control_link* link); /* TCP: also what the peer's host has not acknowledged */
/* All is said: closes as soon as it is sent. */
void mci_control_link_end(mci_control_link* link);
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
meshcclResult_t mci_accept_start_root(mci_boot* boot);         /* rank 0: at the place that the id names */
meshcclResult_t mci_accept_start_tcp(mci_boot* boot);
void mci_accept_stop(mci_boot* boot, int listener);
void mci_accept_drop_all(mci_boot* boot); /* strangers */
void mci_accept_progress(mci_boot* boot, int listener);
void mci_accept_drop(mci_control_link* link); /* a stranger */
/* Strangers whose time is over; listeners that may try again. Lowers *due_ns to when there is more to do. */
void mci_accept_expire(mci_boot* boot, uint64_t now, uint64_t* due_ns);
void mci_accept_packet(mci_control_link* link, const mci_packet* packet);
void mci_accept_chain(const mci_boot* boot, mci_chain* out); /* this rank and those above it */
static inline bool mci_accept_is_stranger(const mci_control_link* link) {
  return link->state == LINK_HELLO || link->state == LINK_PROOF;
}

/* ---- beat.c ---- */
void mci_beat_start(mci_boot* boot);
void mci_beat_at(mci_boot* boot, uint64_t due_ns); /* tick no later than that */
void mci_beat_tick(mci_boot* boot);
void mci_beat_forgive(mci_boot* boot, uint64_t now);

/* ---- agree.c ---- */
void mci_agree_try_up(mci_boot* boot);
void mci_agree_up(mci_control_link* link, const mci_packet* packet);
void mci_agree_text(mci_control_link* link, const mci_packet* packet);
void mci_agree_send_text(mci_boot* boot);
void mci_agree_open(mci_boot* boot, bool spans);
void mci_agree_missing(mci_boot* boot, mci_missing* out);
void mci_agree_expired(mci_boot* boot); /* names what is missing, on every rank */

/* ---- leave.c ---- */
/* To an heir on the same host. False: the tree has changed meanwhile; look again. */
bool mci_leave_upwards(mci_boot* boot);
bool mci_leave_downwards(mci_boot* boot, mci_control_link* heir);
void mci_leave_say_here(mci_control_link* link, bool reply);
void mci_leave_moved(mci_control_link* link, const mci_packet* packet);
void mci_leave_here(mci_control_link* link, const mci_packet* packet);
void mci_leave_packet(mci_control_link* link, mci_packet* packet); /* ADOPT and LEAVE */

/* ---- status.c ---- */
void mci_status_take(mci_boot* boot, const mci_packet* packet);                          /* ASK, TELL, STATUS, ACCUSE */
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

/* ---- depart.c: the rank that leaves ---- */
void mci_depart(mci_boot* boot);
/* While this rank leaves, a link came that the heir does not know of, or a rank that it waits for left. */
void mci_depart_also(mci_control_link* link);
void mci_depart_without(mci_boot* boot, int rank);
void mci_depart_abandon(mci_boot* boot); /* the heir is none any more */

/* ---- attach.c: those that stay ---- */
meshcclResult_t mci_attach_seat(mci_boot* boot, int rank, int via, uint32_t flags, mci_control_link** out);
void mci_attach_leaving(mci_control_link* link, const mci_packet* packet);
void mci_attach_released(mci_control_link* link);
void mci_attach_reattach(mci_control_link* link, const mci_packet* packet);
void mci_attach_detached(mci_control_link* link);
void mci_attach_left(mci_control_link* link, const mci_packet* packet);
void mci_attach_bye(mci_control_link* link);
void mci_attach_reroute(mci_boot* boot, mci_frames* frames); /* those that are for a rank; empties the list */
void mci_attach_progress(mci_boot* boot);
void mci_attach_tick(mci_boot* boot, uint64_t now, uint64_t* due_ns);
void mci_attach_stop(mci_boot* boot);

/* ---- service.c ---- lock not held */
meshcclResult_t mci_service_add(mci_boot* boot);
void mci_service_remove(mci_boot* boot);
void mci_service_kin(mci_boot* boot, char* text, size_t size);
void mci_service_serve_threadless(void); /* those whose owner may be waiting for another tree */
#endif
