/* Inside of `meshccl info`: what it finds out about this machine before it prints. */
#ifndef MCI_TOOLS_INFO_H
#define MCI_TOOLS_INFO_H

#include "base/globals.h"
#include "meshccl/transport.h"

typedef struct {
  const char* name;
  bool builtin;
  bool allowed;                      /* by MESHCCL_TRANSPORTS */
  bool usable;                       /* opens here and reaches itself */
  char reason[512];                  /* why not */
  meshcclTransportFigures_t figures; /* of a usable one, towards a rank of this process */
} mci_info_transport;

/* info_transports.c: opens each transport once. Returns how many there are; *problem is "" or why some are missing. */
uint32_t mci_info_transports(mci_info_transport out[MCI_MAX_PLUGINS], char* problem, size_t size);

/* info_algorithms.c: names, collectives and summaries of the planner's algorithms; the same on every machine. */
void mci_info_algorithms_text(mci_str* out);
void mci_info_algorithms_json(mci_str* out); /* items of an array */
void mci_info_algorithms_docs(mci_str* out); /* a table in Markdown */

/* info_docs.c: the page on variables, in Markdown; the same on every machine. */
void mci_info_docs(mci_str* out);
#endif
