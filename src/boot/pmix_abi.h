/* The part of the PMIx ABI that pmix.c uses, see there. */
#ifndef MCI_PMIX_ABI_H
#define MCI_PMIX_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MCI_PMIX_LIBRARY "libpmix.so.2"
#define MCI_PMIX_WILDCARD (UINT32_MAX - 1)
#define MCI_PMIX_GLOBAL 3
enum { MCI_PMIX_BOOL = 1, MCI_PMIX_STRING = 3, MCI_PMIX_INT = 6, MCI_PMIX_UINT16 = 13, MCI_PMIX_UINT32 = 14 };

typedef struct {
  char nspace[256];
  uint32_t rank;
} mci_pmix_proc;

typedef struct {
  uint16_t type;
  union {
    bool flag;
    char* string;
    int integer;
    uint16_t uint16;
    uint32_t uint32;
    void* room[3]; /* the largest member */
  } data;
} mci_pmix_value;

typedef struct {
  char key[512];
  uint32_t flags;
  mci_pmix_value value;
} mci_pmix_info;
#endif
