/* From YAML events to a tree. Anchors, aliases and tags are refused: they are what makes small files large. Depth,
 * numbers of nodes and lengths of texts are bounded, and reading stops at the first mistake. */
#include "topo/machine_yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "topo/machine.h"

#define MAX_DEPTH 8
#define MAX_NODES (1u << 20)
#define MAX_SCALAR 1024

typedef struct {
  mci_yaml* yaml;
  yaml_parser_t parser;
  uint32_t open[MAX_DEPTH], last[MAX_DEPTH]; /* lists and maps that are open, and their last children */
  uint32_t depth;
} reader;

const char* mci_yaml_text(const mci_yaml* yaml, uint32_t node) { return yaml->text.text + yaml->nodes[node].text; }

static meshcclResult_t complain_at(const mci_yaml* yaml, size_t line, size_t column, const char* cause) {
  MCI_FAIL(meshcclInvalidArgument, "%s:%zu:%zu: %s", yaml->name, line, column, cause);
}

meshcclResult_t mci_yaml_complain(const mci_yaml* yaml, uint32_t node, const char* format, ...) {
  char cause[512];
  va_list args;
  va_start(args, format);
  vsnprintf(cause, sizeof cause, format, args);
  va_end(args);
  return complain_at(yaml, yaml->nodes[node].line, yaml->nodes[node].column, cause);
}

static meshcclResult_t complain_mark(const reader* r, yaml_mark_t mark, const char* cause) {
  return complain_at(r->yaml, mark.line + 1, mark.column + 1, cause);
}

static meshcclResult_t complain_parser(const reader* r) {
  const yaml_parser_t* p = &r->parser;
  char cause[256];
  if (p->error == YAML_MEMORY_ERROR) return mci_oom(0);
  if (p->error == YAML_READER_ERROR) {
    MCI_FAIL(meshcclInvalidArgument, "%s: byte %zu is no text of a YAML file (%s); write plain UTF-8", r->yaml->name,
             p->problem_offset + 1, p->problem);
  }
  bool alias = p->context && strstr(p->context, "alias"); /* *.0 without quotes */
  snprintf(cause, sizeof cause, "this is no YAML: %s%s%s; %s", p->context ? p->context : "", p->context ? ", " : "",
           p->problem ? p->problem : "unknown problem",
           alias ? "quote texts that begin with '*'" : "see docs/machine-format.md for what a machine looks like");
  return complain_mark(r, p->problem_mark, cause);
}

static meshcclResult_t add_node(reader* r, mci_yaml_kind kind, yaml_mark_t mark) {
  mci_yaml* yaml = r->yaml;
  if (yaml->n == MAX_NODES) return complain_mark(r, mark, "more than 1048576 entries; describe repetition with `of`");
  MCI_TRY(mci_grow(&yaml->nodes, sizeof *yaml->nodes, &yaml->cap, (size_t)yaml->n + 1));
  uint32_t node = yaml->n++;
  yaml->nodes[node] = (mci_yaml_node){.kind = kind,
                                      .line = (uint32_t)mark.line + 1,
                                      .column = (uint32_t)mark.column + 1,
                                      .child = MCI_YAML_NONE,
                                      .next = MCI_YAML_NONE};
  if (r->depth == 0) return meshcclSuccess;
  uint32_t above = r->depth - 1;
  if (r->last[above] == MCI_YAML_NONE) {
    yaml->nodes[r->open[above]].child = node;
  } else {
    yaml->nodes[r->last[above]].next = node;
  }
  r->last[above] = node;
  return meshcclSuccess;
}

static meshcclResult_t open_node(reader* r, mci_yaml_kind kind, yaml_mark_t mark) {
  if (r->depth == MAX_DEPTH) return complain_mark(r, mark, "nested more than 8 deep; a machine needs 4");
  MCI_TRY(add_node(r, kind, mark));
  r->open[r->depth] = r->yaml->n - 1;
  r->last[r->depth++] = MCI_YAML_NONE;
  return meshcclSuccess;
}

static meshcclResult_t add_scalar(reader* r, const yaml_event_t* event) {
  mci_yaml* yaml = r->yaml;
  const char* value = (const char*)event->data.scalar.value;
  size_t length = event->data.scalar.length;
  if (length > MAX_SCALAR) return complain_mark(r, event->start_mark, "a text of more than 1024 bytes; write a list");
  if (memchr(value, 0, length)) return complain_mark(r, event->start_mark, "a text with a zero byte; remove it");
  MCI_TRY(add_node(r, MCI_YAML_SCALAR, event->start_mark));
  mci_yaml_node* node = &yaml->nodes[yaml->n - 1];
  node->text = yaml->text.length;
  node->length = length;
  if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) node->column++; /* the quote */
  mci_str_add(&yaml->text, "%s%c", value, 0);
  return mci_str_result(&yaml->text);
}

static meshcclResult_t refuse_extras(const reader* r, const yaml_event_t* event) {
  const yaml_char_t *anchor = NULL, *tag = NULL;
  if (event->type == YAML_ALIAS_EVENT)
    return complain_mark(r, event->start_mark,
                         "an alias; machines have none: write the value again, and quote texts that begin with '*'");
  if (event->type == YAML_SCALAR_EVENT) anchor = event->data.scalar.anchor, tag = event->data.scalar.tag;
  if (event->type == YAML_SEQUENCE_START_EVENT)
    anchor = event->data.sequence_start.anchor, tag = event->data.sequence_start.tag;
  if (event->type == YAML_MAPPING_START_EVENT)
    anchor = event->data.mapping_start.anchor, tag = event->data.mapping_start.tag;
  if (anchor) return complain_mark(r, event->start_mark, "an anchor; machines have none: remove the word after '&'");
  if (tag) return complain_mark(r, event->start_mark, "a tag; machines have none: remove the word after '!'");
  return meshcclSuccess;
}

static meshcclResult_t take(reader* r, const yaml_event_t* event) {
  MCI_TRY(refuse_extras(r, event));
  switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
      if (r->yaml->n) return complain_mark(r, event->start_mark, "a second document; a file describes one machine");
      return meshcclSuccess;
    case YAML_SCALAR_EVENT:
      return add_scalar(r, event);
    case YAML_SEQUENCE_START_EVENT:
      return open_node(r, MCI_YAML_LIST, event->start_mark);
    case YAML_MAPPING_START_EVENT:
      return open_node(r, MCI_YAML_MAP, event->start_mark);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
      r->depth--;
      return meshcclSuccess;
    default:
      return meshcclSuccess;
  }
}

static meshcclResult_t read_all(reader* r) {
  for (bool more = true; more;) {
    yaml_event_t event;
    if (!yaml_parser_parse(&r->parser, &event)) return complain_parser(r);
    meshcclResult_t result = take(r, &event);
    more = event.type != YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
    MCI_TRY(result);
  }
  if (r->yaml->n == 0) return complain_at(r->yaml, 1, 1, "an empty file; see docs/machine-format.md");
  return meshcclSuccess;
}

meshcclResult_t mci_yaml_parse(const char* text, size_t length, const char* name, mci_yaml* out) {
  mci_yaml yaml = {.name = name};
  if (length > MCI_MACHINE_MAX_BYTES)
    MCI_FAIL(meshcclInvalidArgument, "%s: %zu bytes; a machine file has at most %u: describe repetition with `of`",
             name, length, MCI_MACHINE_MAX_BYTES);
  reader r = {.yaml = &yaml};
  if (!yaml_parser_initialize(&r.parser)) return mci_oom(sizeof r.parser);
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&r.parser, (const unsigned char*)text, length);
  meshcclResult_t result = read_all(&r);
  yaml_parser_delete(&r.parser);
  if (result == meshcclSuccess) {
    *out = yaml;
  } else {
    mci_yaml_fini(&yaml);
  }
  return result;
}

void mci_yaml_fini(mci_yaml* yaml) {
  mci_free(yaml->nodes);
  mci_str_fini(&yaml->text);
}
