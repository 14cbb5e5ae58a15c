/* Where rank 0 of an id can be reached over TCP: the part of an id that says so, and the listening sockets that this
 * process has opened for its ids and that wait for rank 0 to join here. That part is a hint, not a credential: neither
 * the name nor the secret depends on it, and ranks whose ids differ in it meet all the same.
 *
 *      73 kind | 74 port (2) | 76 addresses: family (4 or 6) and 4 or 16 bytes each, best first, 0 ends
 *
 * The table of sockets is bounded; the oldest is closed when it is full, and that id then serves this host only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/globals.h"
#include "boot/control.h"

#define KIND 73
#define PORT 74
#define ADDRESSES 76
#define END 120
#define TABLE_MAX 32

struct listener {
  struct listener* next; /* newest first */
  unsigned char name[32];
  int fd; /* -1: could not listen */
  mci_net_addresses addresses;
  char why[200];
};

/* ---- in the id ---- */

void mci_id_set_meeting(mci_id* id, mci_meeting kind, uint16_t port, const mci_net_addresses* addresses) {
  unsigned char* bytes = (unsigned char*)id->bytes;
  size_t at = ADDRESSES;
  memset(bytes + KIND, 0, END - KIND);
  bytes[KIND] = (unsigned char)kind;
  bytes[PORT] = (unsigned char)(port >> 8);
  bytes[PORT + 1] = (unsigned char)port;
  for (int i = 0; i < addresses->n; i++) {
    size_t n = addresses->at[i].family == 4 ? 4 : 16;
    if (at + 1 + n > END) continue;
    bytes[at] = addresses->at[i].family;
    memcpy(bytes + at + 1, addresses->at[i].bytes, n);
    at += 1 + n;
  }
  mci_id_seal(id);
}

mci_meeting mci_id_get_meeting(const mci_id* id, mci_net_addresses* out) {
  const unsigned char* bytes = (const unsigned char*)id->bytes;
  uint16_t port = (uint16_t)(bytes[PORT] << 8 | bytes[PORT + 1]);
  *out = (mci_net_addresses){0};
  for (size_t at = ADDRESSES; at < END && out->n < MCI_NET_MAX;) {
    size_t n = bytes[at] == 4 ? 4 : 16;
    if ((bytes[at] != 4 && bytes[at] != 6) || at + 1 + n > END) break;
    meshcclNetAddress_t* a = &out->at[out->n++];
    a->family = bytes[at];
    a->port = port;
    memcpy(a->bytes, bytes + at + 1, n);
    a->scope = mci_net_is_link_local(a) && a->family == 6; /* whichever interface: base/net.h */
    at += 1 + n;
  }
  return bytes[KIND] <= MEETING_NAMED ? (mci_meeting)bytes[KIND] : MEETING_NONE;
}

uint16_t mci_id_meeting_port(const mci_id* id) {
  const unsigned char* bytes = (const unsigned char*)id->bytes;
  return (uint16_t)(bytes[PORT] << 8 | bytes[PORT + 1]);
}

void mci_id_copy_meeting(const mci_id* id, unsigned char out[MCI_ID_MEETING_BYTES]) {
  memcpy(out, id->bytes + KIND, MCI_ID_MEETING_BYTES);
}

void mci_id_paste_meeting(mci_id* id, const unsigned char meeting[MCI_ID_MEETING_BYTES]) {
  memcpy(id->bytes + KIND, meeting, MCI_ID_MEETING_BYTES);
  mci_id_seal(id);
}

/* ---- in this process ---- */

static void discard(struct listener* l) {
  if (l && l->fd >= 0) close(l->fd);
  mci_free(l);
}

/* Takes the entry of this id, or the oldest of a full table, out of the list. Globals are locked. */
static struct listener* unlink_one(const unsigned char* name) {
  struct listener** at = (struct listener**)&mci_globals.boot_listeners;
  for (int n = 0; *at; at = &(*at)->next, n++) {
    bool found = name ? memcmp((*at)->name, name, 32) == 0 : n + 1 == TABLE_MAX;
    if (!found) continue;
    struct listener* l = *at;
    *at = l->next;
    return l;
  }
  return NULL;
}

static meshcclResult_t keep(const mci_id* id, int fd, const mci_net_addresses* addresses, const char* why) {
  struct listener* l = mci_alloc(sizeof *l);
  if (!l) return mci_oom(sizeof *l);
  *l = (struct listener){.fd = fd};
  if (addresses) l->addresses = *addresses;
  memcpy(l->name, mci_id_name(id), sizeof l->name);
  snprintf(l->why, sizeof l->why, "%s", why);
  pthread_mutex_lock(&mci_globals.lock);
  struct listener *same = unlink_one(l->name), *oldest = unlink_one(NULL);
  l->next = mci_globals.boot_listeners;
  mci_globals.boot_listeners = l;
  pthread_mutex_unlock(&mci_globals.lock);
  discard(same);
  discard(oldest);
  return meshcclSuccess;
}

meshcclResult_t mci_id_publish(mci_id* id) {
  int fd = -1;
  mci_net_addresses addresses;
  meshcclResult_t result = mci_net_listen(mci_id_trusted(id), 0, &fd, &addresses);
  if (result != meshcclSuccess) {
    char why[200];
    snprintf(why, sizeof why, "%.199s", mci_error_last());
    keep(id, -1, NULL, why);
    return mci_fail(result, "no other host can join this id: %s", why);
  }
  result = keep(id, fd, &addresses, "");
  if (result != meshcclSuccess) {
    close(fd);
    return result;
  }
  mci_id_set_meeting(id, MEETING_MADE, addresses.at[0].port, &addresses);
  return meshcclSuccess;
}

meshcclResult_t mci_id_adopt_listener(const mci_id* id, int fd) {
  int listens = 0, domain = 0;
  socklen_t n = sizeof listens, m = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) != 0 || !listens ||
      getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &m) != 0 || (domain != AF_INET && domain != AF_INET6))
    MCI_FAIL(meshcclInvalidUsage,
             "MESHCCL_LISTEN_FD=%d is not a listening TCP socket; it is set by meshccl run for rank 0 only", fd);
  mci_net_addresses addresses;
  mci_id_get_meeting(id, &addresses);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return keep(id, fd, &addresses, "");
}

int mci_id_take_listener(const mci_id* id, mci_net_addresses* addresses, char* why, size_t size) {
  pthread_mutex_lock(&mci_globals.lock);
  struct listener* l = unlink_one(mci_id_name(id));
  pthread_mutex_unlock(&mci_globals.lock);
  int fd = l ? l->fd : -1;
  if (l && addresses) *addresses = l->addresses;
  if (l && why) snprintf(why, size, "%s", l->why);
  mci_free(l);
  return fd;
}
