/* The hosts of a run: from -H and host files, who takes which ranks, and which of them is this machine. Starts nothing.
 */
#include "tools/run_hosts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONGEST_LINE 1024

/* Where a text came from, for messages: "-H" or "FILE:LINE". */
typedef struct {
  char text[512];
} origin;

static int add_host(const char* name, size_t length, int slots, const origin* from, mci_run_hosts* hosts) {
  if (length == 0 || name[0] == '-') /* ssh would take it for an option */
    return mci_run_complain("%s: \"%.*s\" is not the name of a host; write HOST:SLOTS", from->text, (int)length, name);
  for (uint32_t i = 0; i < hosts->n; i++) {
    mci_run_host* known = &hosts->list[i];
    if (strlen(known->name) != length || memcmp(known->name, name, length) != 0) continue;
    known->slots = MCI_MIN(known->slots + slots, MCI_RUN_MAX_RANKS);
    return 0;
  }
  char* copy = mci_alloc(length + 1);
  if (!copy || mci_grow(&hosts->list, sizeof *hosts->list, &hosts->cap, hosts->n + 1) != meshcclSuccess) {
    mci_free(copy);
    return mci_run_complain("out of memory");
  }
  memcpy(copy, name, length);
  hosts->list[hosts->n++] = (mci_run_host){.name = copy, .slots = slots};
  return 0;
}

static int parse_slots(const char* text, size_t length, const origin* from, int* out) {
  char digits[8] = "", *end = digits;
  long n = 0;
  if (length > 0 && length < sizeof digits) {
    memcpy(digits, text, length);
    n = strtol(digits, &end, 10);
  }
  if (*end || n < 1 || n > MCI_RUN_MAX_RANKS || digits[0] < '0' || digits[0] > '9')
    return mci_run_complain("%s: \"%.*s\" is no number of slots; it is a whole number from 1 to %d", from->text,
                            (int)length, text, MCI_RUN_MAX_RANKS);
  *out = (int)n;
  return 0;
}

/* "a", "a:4", "[fe80::1%eth0]:4", "fe80::1" (two colons and no brackets: all of it is the name). */
static int parse_host(const char* word, size_t length, const origin* from, mci_run_hosts* hosts) {
  const char* end = word + length;
  const char* colon = memchr(word, ':', length);
  int slots = 1;
  if (length > 0 && word[0] == '[') {
    const char* close = memchr(word, ']', length);
    if (!close || (close + 1 < end && close[1] != ':'))
      return mci_run_complain("%s: \"%.*s\": after [ADDRESS] only :SLOTS may stand", from->text, (int)length, word);
    if (close + 1 < end && parse_slots(close + 2, (size_t)(end - close - 2), from, &slots)) return 2;
    return add_host(word + 1, (size_t)(close - word - 1), slots, from, hosts);
  }
  if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1))) colon = NULL;
  if (colon && parse_slots(colon + 1, (size_t)(end - colon - 1), from, &slots)) return 2;
  return add_host(word, (size_t)((colon ? colon : end) - word), slots, from, hosts);
}

static int parse_list(const char* list, mci_run_hosts* hosts) {
  const origin from = {"-H"};
  int status = 0;
  for (const char* word = list; !status; word++) {
    size_t length = strcspn(word, ",");
    status = parse_host(word, length, &from, hosts);
    word += length;
    if (!*word) break;
  }
  return status;
}

/* "HOST", "HOST:4", "HOST slots=4 max_slots=8"; blanks between, # begins a comment. */
static int parse_line(char* line, const origin* from, mci_run_hosts* hosts) {
  line[strcspn(line, "#\r\n")] = 0;
  char *rest, *host = strtok_r(line, " \t", &rest);
  if (!host) return 0;
  int slots = 0, status;
  for (char* word; (word = strtok_r(NULL, " \t", &rest));) {
    if (strncmp(word, "max_slots=", 10) == 0 || strncmp(word, "max-slots=", 10) == 0) continue;
    if (strncmp(word, "slots=", 6) != 0)
      return mci_run_complain("%s: \"%s\" is not understood; lines are HOST, HOST:4 or HOST slots=4", from->text, word);
    if ((status = parse_slots(word + 6, strlen(word + 6), from, &slots))) return status;
  }
  if (slots == 0) return parse_host(host, strlen(host), from, hosts);
  const char* colon = strchr(host, ':');
  if (colon && !strchr(colon + 1, ':'))
    return mci_run_complain("%s: \"%s\" and slots=%d: the number of slots is given twice", from->text, host, slots);
  return add_host(host, strlen(host), slots, from, hosts);
}

static int parse_file(const char* path, mci_run_hosts* hosts) {
  char line[LONGEST_LINE];
  FILE* file = fopen(path, "re");
  if (!file) return mci_run_complain("--hostfile %s: %s", path, strerror(errno));
  int status = 0;
  for (int number = 1; !status && fgets(line, sizeof line, file); number++) {
    origin from;
    snprintf(from.text, sizeof from.text, "%s:%d", path, number);
    if (!strchr(line, '\n') && !feof(file))
      status = mci_run_complain("%s: a line of %d characters or more", from.text, LONGEST_LINE - 1);
    else
      status = parse_line(line, &from, hosts);
  }
  if (!status && ferror(file)) status = mci_run_complain("--hostfile %s: %s", path, strerror(errno));
  fclose(file);
  return status;
}

int mci_run_hosts_read(const char* list, const char* file, mci_run_hosts* out) {
  mci_run_hosts hosts = {0};
  int status = file ? parse_file(file, &hosts) : 0;
  if (!status && list) status = parse_list(list, &hosts);
  if (!status && hosts.n == 0) status = mci_run_complain("%s names no host", file ? file : "-H");
  if (status) {
    mci_run_hosts_free(&hosts);
    return status;
  }
  *out = hosts;
  return 0;
}

int mci_run_hosts_place(mci_run_hosts* hosts, int* nranks) {
  long slots = 0;
  for (uint32_t i = 0; i < hosts->n; i++) slots += hosts->list[i].slots;
  int wanted = *nranks > 0 ? *nranks : (int)MCI_MIN(slots, MCI_RUN_MAX_RANKS + 1);
  if (wanted > slots)
    return mci_run_complain("%d ranks, but the hosts have %ld slots; give more hosts, or more slots such as %s:%d",
                            wanted, slots, hosts->list[0].name, hosts->list[0].slots + (int)(wanted - slots));
  if (wanted > MCI_RUN_MAX_RANKS)
    return mci_run_complain("%ld slots; at most %d ranks are started: say -n", slots, MCI_RUN_MAX_RANKS);
  uint32_t used = 0;
  for (int placed = 0; used < hosts->n && placed < wanted; used++) {
    mci_run_host* host = &hosts->list[used];
    host->first = placed;
    host->nranks = MCI_MIN(host->slots, wanted - placed);
    placed += host->nranks;
  }
  for (uint32_t i = used; i < hosts->n; i++) mci_free(hosts->list[i].name);
  hosts->n = used;
  *nranks = wanted;
  return 0;
}

bool mci_run_host_is_here(const char* name) {
  static const char* const always[] = {"localhost", "127.0.0.1", "::1"};
  char own[256] = "";
  for (size_t i = 0; i < MCI_COUNT(always); i++)
    if (strcmp(name, always[i]) == 0) return true;
  if (gethostname(own, sizeof own - 1) != 0) return false;
  size_t shorter = strcspn(own, ".");
  return strcmp(name, own) == 0 || (strlen(name) == shorter && memcmp(name, own, shorter) == 0);
}

void mci_run_hosts_free(mci_run_hosts* hosts) {
  for (uint32_t i = 0; i < hosts->n; i++) mci_free(hosts->list[i].name);
  mci_free(hosts->list);
  *hosts = (mci_run_hosts){0};
}
