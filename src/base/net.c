/* Addresses of this host and listening sockets under the policy of base/net.h. What is asked of the kernel is asked
 * each time: interfaces come and go. Addresses as text and bytes: net_text.c. */
#define _GNU_SOURCE
#include "base/net.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/net_sockaddr.h"

#define BACKLOG 1024
#define MAX_SKIPPED 64 /* connections by addresses not handed out, per call of mci_net_accept */

enum { ANY_FAMILY, ONLY_IPV4, ONLY_IPV6 };

/* ---- which interfaces ---- */

typedef struct {
  bool exclude, whole;
  const char* list;
} choice;

static choice choice_of(const char* text) {
  choice c = {.list = text};
  if (*c.list == '^') c.exclude = true, c.list++;
  if (*c.list == '=') c.whole = true, c.list++;
  return c;
}

static bool listed(const choice* c, const char* name) {
  for (const char* p = c->list; *p;) {
    size_t n = strcspn(p, ",");
    if (n > 0 && strncmp(name, p, n) == 0 && (!c->whole || !name[n])) return true;
    p += n + (p[n] == ',');
  }
  return false;
}

static bool is_allowed(const char* text, const char* name) {
  choice c = text && *text ? choice_of(text) : choice_of("^docker,virbr");
  return listed(&c, name) != c.exclude;
}

/* Whether a list names interfaces; loopback is used then, if it is among them. */
static bool names_interfaces(const char* text) { return text && *text && *text != '^'; }

/* ---- addresses ---- */

bool mci_net_is_loopback(const meshcclNetAddress_t* a) {
  static const uint8_t one[16] = {[15] = 1};
  return a->family == 4 ? a->bytes[0] == 127 : memcmp(a->bytes, one, sizeof one) == 0;
}

bool mci_net_is_link_local(const meshcclNetAddress_t* a) {
  if (a->family == 4) return a->bytes[0] == 169 && a->bytes[1] == 254;
  return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

static bool is_private(const meshcclNetAddress_t* a) {
  if (a->family == 6) return (a->bytes[0] & 0xfe) == 0xfc;
  return a->bytes[0] == 10 || (a->bytes[0] == 192 && a->bytes[1] == 168) ||
         (a->bytes[0] == 172 && (a->bytes[1] & 0xf0) == 16);
}

/* Smaller is better. */
static int worth(const meshcclNetAddress_t* a) {
  if (mci_net_is_loopback(a)) return 6 + (a->family == 6);
  if (mci_net_is_link_local(a)) return 4 + (a->family == 6);
  return 2 * is_private(a) + (a->family == 6);
}

/* Keeps the best ones in order; equals stay in the order of the interfaces. */
static void insert(mci_net_addresses* list, const meshcclNetAddress_t* a) {
  int at = list->n;
  while (at > 0 && worth(&list->at[at - 1]) > worth(a)) at--;
  if (at == MCI_NET_MAX) return;
  int moved = MCI_MIN(list->n, MCI_NET_MAX - 1) - at;
  memmove(&list->at[at + 1], &list->at[at], (size_t)moved * sizeof *a);
  list->at[at] = *a;
  list->n = MCI_MIN(list->n + 1, MCI_NET_MAX);
}

static bool family_allowed(const meshcclNetAddress_t* a) {
  int64_t family = mci_param_int(MCI_P_SOCKET_FAMILY);
  return family == ANY_FAMILY || (family == ONLY_IPV4) == (a->family == 4);
}

/* Leading ones of the mask; 0 when there is none. */
static uint8_t prefix_of(const struct ifaddrs* i, int family) {
  meshcclNetAddress_t mask;
  uint8_t bits = 0, most = family == 4 ? 32 : 128;
  if (!i->ifa_netmask || i->ifa_netmask->sa_family != i->ifa_addr->sa_family ||
      !mci_net_from_sockaddr(i->ifa_netmask, &mask) || mask.family != family)
    return 0;
  while (bits < most && mask.bytes[bits / 8] & (0x80 >> bits % 8)) bits++;
  return bits;
}

static bool usable(const struct ifaddrs* i, meshcclNetAddress_t* out) {
  if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || !(i->ifa_flags & IFF_RUNNING) ||
      !mci_net_from_sockaddr(i->ifa_addr, out) || !family_allowed(out))
    return false;
  out->prefix = prefix_of(i, out->family);
  return true;
}

/* Link-local addresses mean an interface of their owner only: the last resort. */
static void drop_worse(mci_net_addresses* list) {
  while (list->n > 1 && mci_net_is_link_local(&list->at[list->n - 1]) && !mci_net_is_link_local(&list->at[0]))
    list->n--;
}

static void collect(const struct ifaddrs* all, const char* wanted, mci_net_addresses* out,
                    mci_net_addresses* loopback) {
  meshcclNetAddress_t a;
  for (const struct ifaddrs* i = all; i; i = i->ifa_next) {
    if (!usable(i, &a)) continue;
    bool lo = (i->ifa_flags & IFF_LOOPBACK) != 0, allowed = is_allowed(wanted, i->ifa_name);
    if (lo && allowed && mci_net_is_loopback(&a)) insert(loopback, &a);
    if (allowed && (!lo || names_interfaces(wanted))) insert(out, &a);
  }
  drop_worse(out);
}

static meshcclResult_t nothing_left(const struct ifaddrs* all, const char* wanted) {
  static const char* const families[] = {"any", "ipv4", "ipv6"};
  mci_str names = {0};
  for (const struct ifaddrs* i = all; i; i = i->ifa_next) {
    bool seen = false;
    for (const struct ifaddrs* k = all; k != i; k = k->ifa_next) seen |= strcmp(k->ifa_name, i->ifa_name) == 0;
    if (!seen) mci_str_add(&names, " %s%s", i->ifa_name, (i->ifa_flags & IFF_RUNNING) ? "" : " (down)");
  }
  mci_fail(meshcclInvalidUsage,
           "MESHCCL_SOCKET_IFNAME=%s and MESHCCL_SOCKET_FAMILY=%s leave no address to be reached by; the interfaces of "
           "this host are:%s",
           wanted ? wanted : "", families[mci_param_int(MCI_P_SOCKET_FAMILY)], names.text ? names.text : " none");
  mci_str_fini(&names);
  return meshcclInvalidUsage;
}

/* *loopback (may be NULL): the loopback addresses that the rules allow, whether or not they are in *out. */
static meshcclResult_t local(mci_net_addresses* out, mci_net_addresses* loopback) {
  struct ifaddrs* all = NULL;
  if (getifaddrs(&all) != 0)
    MCI_FAIL(meshcclSystemError, "the network interfaces cannot be listed: %s", strerror(errno));
  const char* wanted = mci_param_text(MCI_P_SOCKET_IFNAME);
  mci_net_addresses found = {0}, inner = {0};
  collect(all, wanted, &found, &inner);
  if (found.n == 0) found = inner;
  meshcclResult_t result = found.n ? meshcclSuccess : nothing_left(all, wanted);
  freeifaddrs(all);
  if (result != meshcclSuccess) return result;
  *out = found;
  if (loopback) *loopback = inner;
  return meshcclSuccess;
}

meshcclResult_t mci_net_local(mci_net_addresses* out) { return local(out, NULL); }

/* ---- within this system ----
 * There is no network to be careful with, and what spares one costs half of the rate: BBR paces by timers, and goes on
 * to when another control takes over. So Reno is set before a connection exists; what then turns out to come from
 * elsewhere gets the system's choice. Where Reno is missing that stays anyway. */

#define UNPACED "reno"

static void set_control(int fd, const char* name) {
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
}

static bool name_of(int fd, int (*get)(int, struct sockaddr*, socklen_t*), meshcclNetAddress_t* out) {
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  return get(fd, (struct sockaddr*)&name, &length) == 0 && mci_net_from_sockaddr((struct sockaddr*)&name, out);
}

static bool same_place(const meshcclNetAddress_t* a, const meshcclNetAddress_t* b) {
  return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0 && a->scope == b->scope;
}

static bool ends_here(int fd) {
  meshcclNetAddress_t own, peer;
  return name_of(fd, getsockname, &own) && name_of(fd, getpeername, &peer) && same_place(&own, &peer);
}

/* Asks the routes: who would be reached from the very same address. */
static bool is_here(const struct sockaddr_storage* name, socklen_t length) {
  int fd = socket(name->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  bool here = connect(fd, (const struct sockaddr*)name, length) == 0 && ends_here(fd);
  close(fd);
  return here;
}

static void restore_control(int fd) {
  char now[16] = "", usual[16] = "";
  socklen_t now_bytes = sizeof now - 1, usual_bytes = sizeof usual - 1;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, now, &now_bytes) != 0 || strcmp(now, UNPACED) != 0) return;
  int fresh = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fresh < 0) return;
  if (getsockopt(fresh, IPPROTO_TCP, TCP_CONGESTION, usual, &usual_bytes) == 0) set_control(fd, usual);
  close(fresh);
}

/* ---- listening ---- */

/* Where to listen: without a secret at one loopback address, which is bound itself. */
static meshcclResult_t addresses_for(bool trusted, mci_net_addresses* out) {
  mci_net_addresses loopback;
  MCI_TRY(local(out, &loopback));
  if (trusted || mci_param_int(MCI_P_AUTH) == 1) return meshcclSuccess;
  bool more = false;
  for (int i = 0; i < out->n; i++) more |= !mci_net_is_loopback(&out->at[i]);
  if (more && names_interfaces(mci_param_text(MCI_P_SOCKET_IFNAME)))
    MCI_FAIL(
        meshcclInvalidUsage,
        "MESHCCL_SOCKET_IFNAME=%s wants to listen beyond loopback, but no secret guards this job: name a file with a "
        "secret in MESHCCL_SECRET_FILE on every rank, or set MESHCCL_AUTH=none if the network is guarded otherwise",
        mci_param_text(MCI_P_SOCKET_IFNAME));
  if (loopback.n == 0)
    MCI_FAIL(meshcclInvalidUsage,
             "no secret guards this job, so that only loopback may be used, but MESHCCL_SOCKET_IFNAME and "
             "MESHCCL_SOCKET_FAMILY leave none: set MESHCCL_SECRET_FILE on every rank, or MESHCCL_AUTH=none");
  *out = loopback;
  out->n = 1;
  return meshcclSuccess;
}

static meshcclResult_t parse_range(uint16_t port, unsigned* low, unsigned* high) {
  const char* text = mci_param_text(MCI_P_PORT_RANGE);
  *low = *high = port;
  if (port || !text || !*text) return meshcclSuccess;
  char* end;
  unsigned long a = strtoul(text, &end, 10), b = a;
  bool good = end != text && text[0] != '-';
  if (good && *end == '-') {
    const char* second = end + 1;
    b = strtoul(second, &end, 10);
    good = *second >= '0' && *second <= '9';
  }
  if (!good || *end || a < 1 || b > 65535 || a > b)
    MCI_FAIL(meshcclInvalidUsage, "MESHCCL_PORT_RANGE=%s is not a range of ports such as 20000-20999", text);
  *low = (unsigned)a;
  *high = (unsigned)b;
  return meshcclSuccess;
}

static bool any_of(const mci_net_addresses* list, int family) {
  bool found = false;
  for (int i = 0; i < list->n; i++) found |= list->at[i].family == family;
  return found;
}

static void only(mci_net_addresses* list, int family) {
  int n = 0;
  for (int i = 0; i < list->n; i++)
    if (list->at[i].family == family) list->at[n++] = list->at[i];
  list->n = n;
}

static int listen_at(const meshcclNetAddress_t* at, bool v6_only) {
  struct sockaddr_storage name;
  socklen_t length = mci_net_to_sockaddr(at, &name);
  int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, six = v6_only;
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (at->family == 6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &six, sizeof six);
  set_control(fd, UNPACED);
  if (bind(fd, (struct sockaddr*)&name, length) == 0 && listen(fd, BACKLOG) == 0) return fd;
  int cause = errno;
  close(fd);
  errno = cause;
  return -1;
}

/* One socket for all of them. An IPv6 that the kernel has turned off since is left out. */
static int listen_on(mci_net_addresses* list, unsigned port) {
  bool six = any_of(list, 6), four = any_of(list, 4);
  meshcclNetAddress_t at = list->n == 1 ? list->at[0] : (meshcclNetAddress_t){.family = six ? 6 : 4};
  at.port = (uint16_t)port;
  int fd = listen_at(&at, !four);
  if (fd >= 0 || !six || !four || (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)) return fd;
  only(list, 4);
  return listen_on(list, port);
}

/* Ranks of one host begin their search at different ports. */
static int listen_in(mci_net_addresses* list, unsigned low, unsigned high) {
  unsigned n = high - low + 1, start = 0;
  mci_random(&start, sizeof start);
  for (unsigned i = 0; i < n; i++) {
    int fd = listen_on(list, low + (start % n + i) % n);
    if (fd >= 0 || (errno != EADDRINUSE && errno != EACCES)) return fd;
  }
  return -1;
}

static meshcclResult_t cannot_listen(uint16_t port, const mci_net_addresses* list, int cause) {
  char where[80];
  mci_net_print(&list->at[0], where, sizeof where);
  if (cause != EADDRINUSE && cause != EACCES)
    MCI_FAIL(meshcclSystemError, "listening at %s%s failed: %s", where, list->n > 1 ? " and others" : "",
             strerror(cause));
  const char* what = cause == EACCES ? "not allowed to this user" : "in use";
  if (port) MCI_FAIL(meshcclInvalidUsage, "port %u is %s; choose another one", port, what);
  const char* range = mci_param_text(MCI_P_PORT_RANGE);
  MCI_FAIL(meshcclInvalidUsage, "every port of MESHCCL_PORT_RANGE=%s is %s; give a range with more free ports",
           range ? range : "(any)", what);
}

meshcclResult_t mci_net_listen(bool trusted, uint16_t port, int* fd_out, mci_net_addresses* out) {
  unsigned low, high;
  mci_net_addresses list;
  MCI_TRY(parse_range(port, &low, &high));
  MCI_TRY(addresses_for(trusted, &list));
  int fd = listen_in(&list, low, high);
  if (fd < 0) return cannot_listen(port, &list, errno);
  meshcclNetAddress_t bound;
  if (!name_of(fd, getsockname, &bound)) {
    close(fd);
    MCI_FAIL(meshcclSystemError, "a listening socket does not tell its port: %s", strerror(errno));
  }
  for (int i = 0; i < list.n; i++) list.at[i].port = bound.port;
  *out = list;
  *fd_out = fd;
  return meshcclSuccess;
}

static bool handed_out(int fd, const mci_net_addresses* allowed) {
  meshcclNetAddress_t came_by;
  if (!name_of(fd, getsockname, &came_by)) return false;
  for (int i = 0; i < allowed->n; i++)
    if (same_place(&allowed->at[i], &came_by)) return true;
  return false;
}

static void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int mci_net_accept(int listen_fd, const mci_net_addresses* allowed) {
  for (int i = 0; i < MAX_SKIPPED; i++) {
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (fd < 0) return -1;
    if (handed_out(fd, allowed)) {
      no_delay(fd);
      if (!ends_here(fd)) restore_control(fd);
      return fd;
    }
    close(fd);
  }
  errno = EAGAIN;
  return -1;
}

/* An index of the owner's means nothing on another host: then the first interface with such an address is meant. */
static uint32_t scope_here(uint32_t scope) {
  struct ifaddrs* all = NULL;
  uint32_t found = 0;
  if (getifaddrs(&all) != 0) return scope;
  meshcclNetAddress_t a;
  for (const struct ifaddrs* i = all; i && found != scope; i = i->ifa_next)
    if (usable(i, &a) && a.scope && (!found || a.scope == scope)) found = a.scope;
  freeifaddrs(all);
  return found ? found : scope;
}

int mci_net_connect(const meshcclNetAddress_t* to) {
  struct sockaddr_storage name;
  meshcclNetAddress_t at = *to;
  if (at.family == 6 && at.scope) at.scope = scope_here(at.scope);
  socklen_t length = mci_net_to_sockaddr(&at, &name);
  int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  no_delay(fd);
  if (is_here(&name, length)) set_control(fd, UNPACED);
  if (connect(fd, (struct sockaddr*)&name, length) == 0 || errno == EINPROGRESS) return fd;
  int cause = errno;
  close(fd);
  errno = cause;
  return -1;
}
