/* The table of transports: takes built-ins and plugins through one door, checks them, and gives out a selection. It
 * opens nothing; communicators do. Tables are copied, so that pointers given out live for ever. */
#include "transport/registry.h"

#include <string.h>

#include "base/globals.h"
#include "transport/fault.h"
#include "transport/internal.h"

/* A table may be shorter than ours by optional slots, as an older plugin of the same ABI is. */
#define REQUIRED_BYTES offsetof(meshcclTransport_t, memoryKey)

static const meshcclTransport_t* at(int index) { return mci_globals.transports[index]; }

static const char* missing_slot(const meshcclTransport_t* t) {
  const struct {
    bool given;
    const char* name;
  } slots[] = {{t->open != NULL, "open"},   {t->close != NULL, "close"},       {t->address != NULL, "address"},
               {t->reach != NULL, "reach"}, {t->connect != NULL, "connect"},   {t->disconnect != NULL, "disconnect"},
               {t->send != NULL, "send"},   {t->progress != NULL, "progress"}, {t->waitHandle != NULL, "waitHandle"},
               {t->arm != NULL, "arm"}};
  for (size_t i = 0; i < MCI_COUNT(slots); i++)
    if (!slots[i].given) return slots[i].name;
  return NULL;
}

static meshcclResult_t check(const meshcclTransport_t* t) {
  if (!t) MCI_FAIL(meshcclInvalidArgument, "a transport was registered without a table");
  if (t->abi != MESHCCL_TRANSPORT_ABI)
    MCI_FAIL(meshcclInvalidArgument,
             "a transport has ABI %u, this library has ABI %u; build it against the transport.h of this version",
             t->abi, (unsigned)MESHCCL_TRANSPORT_ABI);
  if (t->size < REQUIRED_BYTES)
    MCI_FAIL(meshcclInvalidArgument, "a transport's table has %u bytes, at least %zu are required; set size to sizeof",
             t->size, REQUIRED_BYTES);
  if (!t->name || !*t->name || strpbrk(t->name, " ,^:"))
    MCI_FAIL(meshcclInvalidArgument, "a transport needs a name without space, comma, colon and ^, not \"%s\"",
             t->name ? t->name : "");
  const char* slot = missing_slot(t);
  if (slot) MCI_FAIL(meshcclInvalidArgument, "transport \"%s\" lacks the required slot %s", t->name, slot);
  return meshcclSuccess;
}

static int find(const char* name, size_t length) {
  for (int i = 0; i < mci_globals.ntransports; i++)
    if (strlen(at(i)->name) == length && memcmp(at(i)->name, name, length) == 0) return i;
  return -1;
}

static meshcclResult_t insert(const meshcclTransport_t* copy) {
  if (find(copy->name, strlen(copy->name)) >= 0)
    MCI_FAIL(meshcclInvalidArgument, "a transport named \"%s\" is registered already; names must differ", copy->name);
  if (mci_globals.ntransports == MCI_MAX_PLUGINS)
    MCI_FAIL(meshcclInvalidArgument, "transport \"%s\" finds the table full: at most %d transports", copy->name,
             MCI_MAX_PLUGINS);
  mci_globals.transports[mci_globals.ntransports++] = copy;
  return meshcclSuccess;
}

meshcclResult_t mci_transport_add(const meshcclTransport_t* transport) {
  MCI_TRY(check(transport));
  size_t name_bytes = strlen(transport->name) + 1;
  meshcclTransport_t* copy = mci_alloc(sizeof *copy + name_bytes);
  if (!copy) return mci_oom(sizeof *copy + name_bytes);
  memcpy(copy, transport, MCI_MIN((size_t)transport->size, sizeof *copy));
  copy->size = sizeof *copy;
  copy->name = memcpy(copy + 1, transport->name, name_bytes);
  mci_transport_fill_stubs(copy);
  meshcclResult_t result = insert(copy);
  if (result != meshcclSuccess) mci_free(copy);
  return result;
}

bool mci_transport_has(const meshcclTransport_t* transport) {
  int index = find(transport->name, strlen(transport->name));
  return index >= 0 && at(index)->open == transport->open && at(index)->close == transport->close;
}

meshcclResult_t mci_transport_register(const meshcclTransport_t* transport) {
  pthread_mutex_lock(&mci_globals.plugins_lock);
  meshcclResult_t result = mci_transport_add(transport);
  pthread_mutex_unlock(&mci_globals.plugins_lock);
  return result;
}

static meshcclResult_t unknown(const char* variable, const char* name, size_t length) {
  mci_str known = {0};
  for (int i = 0; i < mci_globals.ntransports; i++) mci_str_add(&known, "%s%s", i ? ", " : "", at(i)->name);
  meshcclResult_t result = mci_str_result(&known);
  if (result == meshcclSuccess)
    result = mci_fail(meshcclInvalidArgument, "%s names \"%.*s\", which is not one of the transports: %s", variable,
                      (int)length, name, known.text ? known.text : "none");
  mci_str_fini(&known);
  return result;
}

/* Indices of the transports that the comma list names, in its order, each once. */
static meshcclResult_t parse_names(const char* list, int* named, int* nnamed) {
  int n = 0;
  for (const char* p = list; *p;) {
    p += strspn(p, ", ");
    size_t length = strcspn(p, ", ");
    if (length == 0) break;
    int index = find(p, length);
    if (index < 0) return unknown("MESHCCL_TRANSPORTS", p, length);
    bool again = false;
    for (int i = 0; i < n; i++) again |= named[i] == index;
    if (!again) named[n++] = index;
    p += length;
  }
  *nnamed = n;
  return meshcclSuccess;
}

static meshcclResult_t select_named(const char* list, int* chosen, int* nchosen) {
  int named[MCI_MAX_PLUGINS], nnamed = 0, n = 0;
  bool exclude = list && *list == '^';
  if (list) MCI_TRY(parse_names(list + exclude, named, &nnamed));
  if (list && !exclude) {
    memcpy(chosen, named, (size_t)nnamed * sizeof *named);
    *nchosen = nnamed;
    return meshcclSuccess;
  }
  for (int i = 0; i < mci_globals.ntransports; i++) {
    bool excluded = false;
    for (int j = 0; j < nnamed; j++) excluded |= named[j] == i;
    if (!excluded) chosen[n++] = i;
  }
  *nchosen = n;
  return meshcclSuccess;
}

/* MESHCCL_FAULT stands in front of the chosen ones that it names. */
static meshcclResult_t put_faults(const char* text, const int* chosen, int n, const meshcclTransport_t** out) {
  mci_fault_plan plan;
  MCI_TRY(mci_fault_parse(text, &plan));
  for (int i = 0; i < plan.n; i++) {
    const char* name = plan.rules[i].transport;
    if (strcmp(name, "*") != 0 && find(name, strlen(name)) < 0) return unknown("MESHCCL_FAULT", name, strlen(name));
  }
  for (int i = 0; i < n; i++)
    if (mci_fault_concerns(&plan, out[i]->name)) MCI_TRY(mci_fault_wrap(chosen[i], &out[i]));
  return meshcclSuccess;
}

static meshcclResult_t give_out(const char* list, const char* faults, const meshcclTransport_t** out, uint32_t* n,
                                uint32_t cap) {
  int chosen[MCI_MAX_PLUGINS], nchosen = 0;
  MCI_TRY(select_named(list, chosen, &nchosen));
  if (nchosen == 0)
    MCI_FAIL(meshcclInvalidArgument, "MESHCCL_TRANSPORTS=%s leaves no transport; name at least one", list ? list : "");
  if ((uint32_t)nchosen > cap)
    MCI_FAIL(meshcclInternalError, "%d transports are in use, the caller has room for %u", nchosen, cap);
  for (int i = 0; i < nchosen; i++) out[i] = at(chosen[i]);
  if (faults) MCI_TRY(put_faults(faults, chosen, nchosen, out));
  *n = (uint32_t)nchosen;
  return meshcclSuccess;
}

meshcclResult_t mci_transport_list(const meshcclTransport_t** out, uint32_t* n, uint32_t cap) {
  const char *list = mci_param_text(MCI_P_TRANSPORTS), *faults = mci_param_text(MCI_P_FAULT);
  pthread_mutex_lock(&mci_globals.plugins_lock);
  meshcclResult_t result = give_out(list, faults, out, n, cap);
  pthread_mutex_unlock(&mci_globals.plugins_lock);
  return result;
}

uint32_t mci_transport_all(const meshcclTransport_t** out, uint32_t cap) {
  pthread_mutex_lock(&mci_globals.plugins_lock);
  uint32_t n = (uint32_t)mci_globals.ntransports;
  for (uint32_t i = 0; i < n && i < cap; i++) out[i] = at((int)i);
  pthread_mutex_unlock(&mci_globals.plugins_lock);
  return n;
}
