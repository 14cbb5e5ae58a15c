/* Where rank 0 is to listen, when people say so by name: MASTER_ADDR and MASTER_PORT of torchrun-like launchers, with
 * MESHCCL_PORT in place of the latter, or MESHCCL_ROOT for any start from the environment. Writes it into the id; rank 0
 * listens when it joins (accept.c), the others resolve the name here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/control.h"

enum { AUTH_SECRET, AUTH_NONE };

/* The port of "host:port"; 0: it has none. */
static uint16_t port_of(const char* text) {
  const char* colon = strrchr(text, ':');
  char* end = NULL;
  unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
  return colon && end != colon + 1 && !*end && port <= 65535 ? (uint16_t)port : 0;
}

/* Without a secret only loopback may be used, so the other hosts would wait in vain. */
static meshcclResult_t check_secret(const mci_root_choice* choice, const mci_id* id, const mci_net_addresses* to) {
  if (mci_id_trusted(id) || mci_param_int(MCI_P_AUTH) == AUTH_NONE || to->n == 0) return meshcclSuccess;
  for (int i = 0; i < to->n; i++)
    if (mci_net_is_loopback(&to->at[i])) return meshcclSuccess;
  MCI_FAIL(meshcclInvalidUsage,
           "%s=%s is an address for other hosts, but no secret guards this job: name a file with a secret in "
           "MESHCCL_SECRET_FILE on every rank, or set MESHCCL_AUTH=none if the network is guarded otherwise",
           choice->variable, choice->host);
}

static meshcclResult_t resolve(const mci_root_choice* choice, mci_net_addresses* out) {
  if (mci_net_resolve(choice->host, choice->port, out) == meshcclSuccess) return meshcclSuccess;
  char why[300];
  snprintf(why, sizeof why, "%.299s", mci_error_last());
  MCI_FAIL(meshcclInvalidUsage, "%s, where rank 0 is to be reached, is of no use on rank %d: %s", choice->variable,
           choice->rank, why);
}

meshcclResult_t mci_root_name(const mci_root_choice* choice, mci_id* id) {
  mci_net_addresses addresses = {0};
  meshcclResult_t result = resolve(choice, &addresses);
  /* Rank 0 listens, whatever its own host calls itself; ranks that may be on its host do without the name. */
  if (result != meshcclSuccess && choice->certain && choice->rank != 0) return result;
  if (result != meshcclSuccess) MCI_INFO("%s", mci_error_last());
  if (choice->certain) MCI_TRY(check_secret(choice, id, &addresses));
  mci_id_set_meeting(id, MEETING_NAMED, choice->port, &addresses);
  return meshcclSuccess;
}

meshcclResult_t mci_root_from_variable(int rank, mci_id* id, bool* named) {
  const char* text = mci_param_text(MCI_P_ROOT);
  *named = text && *text;
  if (!*named) return meshcclSuccess;
  char host[256];
  uint16_t port = port_of(text);
  const char* colon = strrchr(text, ':');
  if (port == 0 || colon == text || (size_t)(colon - text) >= sizeof host)
    MCI_FAIL(meshcclInvalidUsage, "MESHCCL_ROOT=%s is not host:port, such as node1:4711 or [2001:db8::1]:4711", text);
  snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
  mci_root_choice choice = {.variable = "MESHCCL_ROOT", .host = host, .port = port, .rank = rank, .certain = true};
  return mci_root_name(&choice, id);
}

meshcclResult_t mci_root_from_master(int rank, bool certain, mci_id* id) {
  const char *host = mci_env("MASTER_ADDR"), *text = mci_env("MASTER_PORT");
  int64_t port = mci_param_int(MCI_P_PORT);
  if (port == 0 && text) {
    char* end;
    port = strtol(text, &end, 10);
    if (*end || end == text || port < 1 || port > 65535)
      MCI_FAIL(meshcclInvalidUsage, "MASTER_PORT=%s; it must be a whole number from 1 to 65535", text);
  }
  mci_root_choice choice = {
      .variable = "MASTER_ADDR", .host = host, .port = (uint16_t)port, .rank = rank, .certain = certain};
  return mci_root_name(&choice, id);
}
