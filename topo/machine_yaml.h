/* YAML as a tree of texts with their places, for machine.c: the part of YAML that descriptions need, within limits. */
#ifndef MCI_MACHINE_YAML_H
#define MCI_MACHINE_YAML_H

#include "base/base.h"

typedef enum { MCI_YAML_SCALAR, MCI_YAML_LIST, MCI_YAML_MAP } mci_yaml_kind;

#define MCI_YAML_NONE UINT32_MAX

typedef struct {
  mci_yaml_kind kind;
  size_t text, length;   /* scalars: offset in mci_yaml.text */
  uint32_t line, column; /* from 1 */
  uint32_t child, next;  /* of lists and maps; the children of a map are key, value, key, value .. */
} mci_yaml_node;

typedef struct {
  const char* name;
  mci_yaml_node* nodes; /* the first is the root */
  uint32_t n, cap;
  mci_str text; /* all scalars, each with a final NUL */
} mci_yaml;

meshcclResult_t mci_yaml_parse(const char* text, size_t length, const char* name, mci_yaml* out);
void mci_yaml_fini(mci_yaml* yaml);
const char* mci_yaml_text(const mci_yaml* yaml, uint32_t node);
/* Fails with name:line:column of the node and the sentence. */
meshcclResult_t mci_yaml_complain(const mci_yaml* yaml, uint32_t node, const char* format, ...) MCI_PRINTF(3, 4);
#endif
