/* Addresses as text, as bytes on a wire and as the system has them; names of hosts. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/net_sockaddr.h"

bool mci_net_from_sockaddr(const struct sockaddr* from, meshcclNetAddress_t* out) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  meshcclNetAddress_t a = {0};
  if (from->sa_family == AF_INET) {
    struct sockaddr_in in;
    memcpy(&in, from, sizeof in);
    a.family = 4;
    a.port = ntohs(in.sin_port);
    memcpy(a.bytes, &in.sin_addr, 4);
  } else if (from->sa_family == AF_INET6) {
    struct sockaddr_in6 in;
    memcpy(&in, from, sizeof in);
    bool four = memcmp(&in.sin6_addr, mapped, sizeof mapped) == 0;
    a.family = four ? 4 : 6;
    a.port = ntohs(in.sin6_port);
    memcpy(a.bytes, (const uint8_t*)&in.sin6_addr + (four ? 12 : 0), four ? 4 : 16);
    if (!four && mci_net_is_link_local(&a)) a.scope = in.sin6_scope_id;
  } else {
    return false;
  }
  *out = a;
  return true;
}

socklen_t mci_net_to_sockaddr(const meshcclNetAddress_t* from, struct sockaddr_storage* out) {
  memset(out, 0, sizeof *out);
  if (from->family == 4) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(from->port)};
    memcpy(&in.sin_addr, from->bytes, 4);
    memcpy(out, &in, sizeof in);
    return sizeof in;
  }
  struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons(from->port), .sin6_scope_id = from->scope};
  memcpy(&in.sin6_addr, from->bytes, 16);
  memcpy(out, &in, sizeof in);
  return sizeof in;
}

void mci_net_print(const meshcclNetAddress_t* address, char* text, size_t size) {
  char number[INET6_ADDRSTRLEN] = "?", scope[IF_NAMESIZE + 1] = "";
  inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->bytes, number, sizeof number);
  if (address->scope) {
    char name[IF_NAMESIZE];
    if (if_indextoname(address->scope, name)) {
      snprintf(scope, sizeof scope, "%%%s", name);
    } else {
      snprintf(scope, sizeof scope, "%%%u", address->scope);
    }
  }
  snprintf(text, size, address->family == 4 ? "%s%s:%u" : "[%s%s]:%u", number, scope, address->port);
}

/* ---- resolving ---- */

/* Cuts "host:port", "[ipv6]:port" or, when the port is given apart, a bare host or "[ipv6]". */
static bool cut(const char* text, uint16_t* port, char* host, size_t size) {
  bool bracket = text[0] == '[';
  const char* end = bracket ? strchr(text, ']') : *port ? text + strlen(text) : strrchr(text, ':');
  if (!end) return false;
  const char* begin = text + bracket;
  size_t n = (size_t)(end - begin);
  const char* rest = end + bracket;
  if (n == 0 || n >= size || (!*port && !bracket && memchr(begin, ':', n))) return false;
  memcpy(host, begin, n);
  host[n] = 0;
  if (*port) return *rest == 0;
  char* stop;
  unsigned long number = strtoul(rest + 1, &stop, 10);
  if (*rest != ':' || rest[1] < '0' || rest[1] > '9' || *stop || number < 1 || number > 65535) return false;
  *port = (uint16_t)number;
  return true;
}

meshcclResult_t mci_net_resolve(const char* host, uint16_t port, mci_net_addresses* out) {
  static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6};
  char name[256];
  if (!cut(host, &port, name, sizeof name))
    MCI_FAIL(meshcclInvalidUsage, "\"%s\" is not host:port, such as node1:4711 or [2001:db8::1]:4711", host);
  struct addrinfo hints = {.ai_family = families[mci_param_int(MCI_P_SOCKET_FAMILY)], .ai_socktype = SOCK_STREAM};
  struct addrinfo* found = NULL;
  int code = getaddrinfo(name, NULL, &hints, &found);
  if (code != 0)
    MCI_FAIL(meshcclInvalidUsage, "the host of \"%s\" cannot be found: %s", host,
             code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
  mci_net_addresses list = {0};
  for (const struct addrinfo* i = found; i && list.n < MCI_NET_MAX; i = i->ai_next)
    if (mci_net_from_sockaddr(i->ai_addr, &list.at[list.n])) list.at[list.n++].port = port;
  freeaddrinfo(found);
  if (list.n == 0) MCI_FAIL(meshcclInvalidUsage, "the host of \"%s\" has no IP address", host);
  *out = list;
  return meshcclSuccess;
}

/* ---- bytes: family, 0, port, scope, address ---- */

void mci_net_pack(const meshcclNetAddress_t* address, unsigned char out[MCI_NET_PACKED_BYTES]) {
  out[0] = address->family;
  out[1] = 0;
  out[2] = (unsigned char)(address->port >> 8);
  out[3] = (unsigned char)address->port;
  for (int i = 0; i < 4; i++) out[4 + i] = (unsigned char)(address->scope >> (24 - 8 * i));
  memcpy(out + 8, address->bytes, 16);
}

bool mci_net_unpack(const unsigned char in[MCI_NET_PACKED_BYTES], meshcclNetAddress_t* out) {
  static const uint8_t zeros[12];
  meshcclNetAddress_t a = {.family = in[0], .port = (uint16_t)(in[2] << 8 | in[3])};
  for (int i = 0; i < 4; i++) a.scope = a.scope << 8 | in[4 + i];
  memcpy(a.bytes, in + 8, 16);
  if ((a.family != 4 && a.family != 6) || in[1]) return false;
  if (a.family == 4 && memcmp(a.bytes + 4, zeros, sizeof zeros) != 0) return false;
  if (a.scope && (a.family == 4 || !mci_net_is_link_local(&a))) return false;
  *out = a;
  return true;
}

/* ---- hosts ---- */

uint64_t mci_host_id(void) {
  char text[160] = "";
  const char* given = mci_param_text(MCI_P_HOST_ID);
  uint64_t id;
  if (given && *given) {
    id = mci_hash64(given, strlen(given));
  } else {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, 64) : -1;
    if (fd >= 0) close(fd);
    if (n < 0) n = 0;
    if (n == 0 && gethostname(text, 64) == 0) n = (ssize_t)strnlen(text, 64);
    struct stat names = {0};
    if (stat("/proc/self/ns/net", &names) != 0) names.st_ino = 0;
    n += snprintf(text + n, sizeof text - (size_t)n, "/%llu", (unsigned long long)names.st_ino);
    id = mci_hash64(text, (size_t)n);
  }
  return id ? id : 1;
}

void mci_host_name(char* text, size_t size) {
  const char* given = mci_param_text(MCI_P_HOST_ID);
  if (given && *given) {
    snprintf(text, size, "%s", given);
  } else if (size == 0 || gethostname(text, size) != 0) {
    snprintf(text, size, "localhost");
  } else {
    text[size - 1] = 0;
  }
}
