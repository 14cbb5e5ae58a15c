/* Machines as YAML text; docs/machine-format.md is the manual. Pure: no file is opened here (src/boot/topology.h does).
 */
#ifndef MCI_MACHINE_H
#define MCI_MACHINE_H

#include "topo/graph.h"

#define MCI_MACHINE_MAX_BYTES (4u << 20)

/* `name` is what errors call the text, such as its path. A mistake is InvalidArgument: name:line:column, the offending
 * text and the remedy. */
meshcclResult_t mci_machine_parse(const char* text, size_t length, const char* name, mci_topo** out);
/* The canonical text: parsing it gives the same topology, and printing that the same text. */
meshcclResult_t mci_machine_print(const mci_topo* topo, mci_str* out);
#endif
