/* MESHCCL_ALGO: "all_reduce:ring;broadcast:tree", or one name for every collective that knows it. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "topo/plan/plan.h"

static bool known(const char* name, uint32_t colls) {
  for (const mci_family* const* f = mci_families; *f; f++)
    if (((*f)->colls & colls) && strcmp((*f)->name, name) == 0) return true;
  return false;
}

static meshcclResult_t refuse_name(const char* name, uint32_t colls, const char* where) {
  mci_str names = {0};
  for (const mci_family* const* f = mci_families; *f; f++)
    if ((*f)->colls & colls) mci_str_add(&names, "%s%s", names.length ? ", " : "", (*f)->name);
  meshcclResult_t result = mci_fail(meshcclInvalidArgument, "MESHCCL_ALGO: \"%s\" is no algorithm for %s; known: %s",
                                    name, where, names.text ? names.text : "none");
  mci_str_fini(&names);
  return result;
}

/* One entry, "coll:name" or "name", already cut out and writable. */
static meshcclResult_t parse_entry(char* entry, mci_coll coll, char* out, size_t size) {
  char* colon = strchr(entry, ':');
  if (!colon) {
    if (!known(entry, UINT32_MAX)) return refuse_name(entry, UINT32_MAX, "any collective");
    if (known(entry, 1u << coll)) snprintf(out, size, "%s", entry);
    return meshcclSuccess;
  }
  *colon = '\0';
  mci_coll entry_coll;
  MCI_TRY(mci_coll_parse(entry, &entry_coll));
  if (!known(colon + 1, 1u << entry_coll)) return refuse_name(colon + 1, 1u << entry_coll, mci_coll_name(entry_coll));
  if (entry_coll == coll) snprintf(out, size, "%s", colon + 1);
  return meshcclSuccess;
}

meshcclResult_t mci_plan_forced(const char* text, mci_coll coll, char* out, size_t size) {
  char found[64] = "";
  for (const char* at = text ? text : ""; *at;) {
    char entry[64];
    size_t length = strcspn(at, ";,");
    if (length >= sizeof entry)
      MCI_FAIL(meshcclInvalidArgument, "MESHCCL_ALGO: \"%.20s...\" is too long for COLLECTIVE:ALGORITHM", at);
    memcpy(entry, at, length);
    entry[length] = '\0';
    if (length > 0) MCI_TRY(parse_entry(entry, coll, found, sizeof found));
    at += length + (at[length] != '\0');
  }
  if (strlen(found) >= size) MCI_FAIL(meshcclInternalError, "no room for the algorithm name \"%s\"", found);
  memcpy(out, found, strlen(found) + 1);
  return meshcclSuccess;
}
