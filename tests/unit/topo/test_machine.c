/* Machine files: the shipped ones against their specs, printing and parsing back, every mistake with line, column and
 * remedy, limits. */
#include "support/test.h"
#include "topo/machine.h"

static mci_topo* parse(const char* text) {
  mci_topo* topo = NULL;
  if (mci_machine_parse(text, strlen(text), "m.yaml", &topo) != meshcclSuccess)
    fail_msg("%s\n%s", text, mci_error_last());
  return topo;
}

static char* spec_of(const mci_topo* topo) {
  mci_str out = {0};
  check_ok(mci_topo_print(topo, &out));
  return out.text;
}

static char* machine_of(const mci_topo* topo) {
  mci_str out = {0};
  check_ok(mci_machine_print(topo, &out));
  return out.text;
}

/* The machine prints to a text that means the same and prints the same. */
static void expect_round(const char* what, const mci_topo* topo) {
  char *spec = spec_of(topo), *first = machine_of(topo);
  mci_topo* back = NULL;
  if (mci_machine_parse(first, strlen(first), "printed", &back) != meshcclSuccess)
    fail_msg("%s\n%s%s", what, first, mci_error_last());
  char *spec_back = spec_of(back), *second = machine_of(back);
  if (strcmp(spec, spec_back) != 0) fail_msg("%s became %s over\n%s", spec, spec_back, first);
  assert_string_equal(first, second);
  mci_topo_destroy(back);
  mci_free(spec);
  mci_free(first);
  mci_free(spec_back);
  mci_free(second);
}

static void shipped_machines_are_what_they_say(void** state) {
  (void)state;
#define DIE "@2TB/s,100ns"
#define TTP ":50GB/s:1.3us"
  static const char* const rows[][2] = {
      {"dojo-tile", "mesh:5x5" DIE ",level=tile:5x5:2TB/s:100ns"},
      {"dojo-tray", "mesh:10x15" DIE ",level=tile:5x5:900GB/s:100ns,level=tray:10x15:900GB/s:100ns"},
      {"dojo-cabinet", "mesh:2x10x15" DIE ",apart=z,level=tile:1x5x5:900GB/s:100ns,level=tray:1x10x15" TTP
                       ",level=cabinet:2x10x15" TTP ",plane=ttp" TTP ":*.*.0+*.*.14"},
      {"dojo-exapod", "mesh:20x10x15" DIE ",apart=z,level=tile:1x5x5:900GB/s:100ns,level=tray:1x10x15" TTP
                      ",level=cabinet:2x10x15" TTP ",level=exapod:20x10x15" TTP ",plane=ttp" TTP ":*.*.0+*.*.14"},
      {"tpu-4x4x4", "torus:4x4x4@50GB/s,500ns,level=cube:4x4x4:50GB/s:500ns"},
      {"host", "full:8@10GB/s,500ns,level=host:8:10GB/s:500ns,memory"},
  };
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    char path[4096], text[8192];
    snprintf(path, sizeof path, "%s/%s.yaml", MACHINES, rows[i][0]);
    FILE* file = fopen(path, "r");
    if (!file) fail_msg("%s cannot be read", path);
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    mci_topo* topo = NULL;
    if (mci_machine_parse(text, length, path, &topo) != meshcclSuccess) fail_msg("%s", mci_error_last());
    char* spec = spec_of(topo);
    if (strcmp(spec, rows[i][1]) != 0) fail_msg("%s is %s, expected %s", rows[i][0], spec, rows[i][1]);
    expect_round(rows[i][0], topo);
    mci_free(spec);
    mci_topo_destroy(topo);
  }
}

static void every_topology_prints_as_a_machine_that_reads_back(void** state) {
  (void)state;
  static const char* const specs[] = {
      "ring:8",
      "line:5",
      "line:1",
      "mesh:5x5",
      "torus:4x4x4",
      "torus:2x3x4x5@o=3ns",
      "full:4",
      "full:4@memory",
      "full:1",
      "mesh:3x4@wrap=x",
      "mesh:3x4x5@cut=2.0.0-0.0.0,wrap=zx",
      "mesh:5x5@dead=2.3+4.1,cut=0.0-0.1,neighbours,pick=0.0+1.1+2.2,map=2.0.1",
      "mesh:10x15@level=tile:5x5:900GB/s",
      "mesh:10x15@level=tile:5x5:900GB/s:o=5ns,level=tray:10x15",
      "mesh:10x15@level=tile:5x5:900GB/s,level=tray:10x15:1GB/s",
      "mesh:7x9@level=a:2x2,level=b:4x2",
      "mesh:4x9@level=a:2x5-0x2,o=2ns",
      "full:11@level=host:4+4+3:12.5GB/s:10us",
      "full:12@level=host:4*3,level=rack:12",
      "full:12@level=host:4*3,level=rack:8+4",
      "full:4@level=host:2+2,map=3.1.0.2",
      "mesh:20x10x15@apart=z,level=t:1x5x5:1GB/s,plane=p:50GB/s:1us:*.*.0+*.*.14,plane=q:1GB/s:o=1us:0.0.0+19.9.14",
      "line:4@apart=x,plane=all:*",
      "torus:40x40@dead=1.1+2.2+3.3+4.4+5.5+6.6+7.7+8.8+9.9+10.10+11.11+12.12+13.13+14.14+"
      "15.15+16.16+17.17+18.18"};
  for (size_t i = 0; i < MCI_COUNT(specs); i++) {
    mci_topo* topo = NULL;
    if (mci_topo_parse(specs[i], &topo) != meshcclSuccess) fail_msg("%s", mci_error_last());
    expect_round(specs[i], topo);
    mci_topo_destroy(topo);
  }
}

static void the_canonical_text(void** state) {
  (void)state;
  static const char text[] =
      "meshccl-machine: 1\n"
      "shape: mesh\n"
      "wrap: x\n"
      "apart: z\n"
      "classes:\n"
      "  links-0: {rate: 2TB/s, delay: 100ns}\n"
      "  links-1: {rate: 900GB/s, delay: 100ns, cost: 1ns}\n"
      "levels:\n"
      "  - {name: tile, of: 1x2x2, links: links-0}\n"
      "  - {name: tray, of: 4x2x3, links: links-1}\n"
      "dead: [0.1.1, 0.2.0]\n"
      "cut: [1.0.0-1.0.1]\n"
      "planes:\n"
      "  - {name: sw, links: links-1, nodes: [\"1.*.3\", \"*.0.0\"]}\n"
      "messages: neighbours\n";
  mci_topo* topo = parse(text);
  char *back = machine_of(topo), *spec = spec_of(topo);
  assert_string_equal(back, text);
  assert_string_equal(spec,
                      "mesh:4x4x6@2TB/s,100ns,wrap=x,apart=z,level=tile:1x2x2:900GB/s:100ns:o=1ns,level=tray:4x4x6:"
                      "900GB/s:100ns,dead=0.1.1+0.2.0,cut=1.0.0-1.0.1,plane=sw:900GB/s:100ns:o=1ns:1.*.3+*.0.0,"
                      "neighbours");
  mci_free(back);
  mci_free(spec);
  mci_topo_destroy(topo);
}

/* ---- mistakes ---- */

#define HEAD "meshccl-machine: 1\nshape: mesh\n"
#define CLASS "classes: {a: {rate: 1GB/s, delay: 1us}}\n"
#define LEVEL "levels:\n  - {name: t, of: 2x2, links: a}\n"

static const char* const mistakes[][3] = {
    {"", "m.yaml:1:1", "empty file"},
    {"# only a comment\n", "m.yaml:1:1", "empty file"},
    {"torus:4x4", "m.yaml:1:1", "keys and values"},
    {"- a\n", "m.yaml:1:1", "keys and values"},
    {"shape: mesh\n", "m.yaml:1:1", "meshccl-machine: 1"},
    {"meshccl-machine: 2\n", "m.yaml:1:18", "write `meshccl-machine: 1`"},
    {"meshccl-machine: [1]\n", "m.yaml:1:18", "write `meshccl-machine: 1`"},
    {"meshccl-machine: 1\n", "m.yaml:1:1", "mesh, torus or full"},
    {"meshccl-machine: 1\nshape: ring\n", "m.yaml:2:8", "mesh, torus or full"},
    {"meshccl-machine: 1\nshape: [mesh]\n", "m.yaml:2:8", "one value"},
    {HEAD, "m.yaml:1:1", "`classes` is missing"},
    {HEAD CLASS, "m.yaml:1:1", "`levels` or `sides` is missing"},
    {HEAD CLASS "level: []\n", "m.yaml:4:1: \"level\" is no key here (levels?)", "keys are"},
    {HEAD CLASS LEVEL "shape: torus\n", "m.yaml:6:1", "also in line 2"},
    {HEAD "classes: [a]\n" LEVEL, "m.yaml:3:10", "NAME: {rate"},
    {HEAD "classes: {a: {rate: 1GB/s}}\n" LEVEL, "m.yaml:3:14", "lacks its delay"},
    {HEAD "classes: {a: {delay: 1us}}\n" LEVEL, "m.yaml:3:14", "lacks its rate"},
    {HEAD "classes: {a: {rate: 1GB/s, delay: 1us, speed: 3}}\n" LEVEL, "m.yaml:3:40", "rate, delay, cost"},
    {HEAD "classes: {a: {rate: 1Gb/s, delay: 1us}}\n" LEVEL, "m.yaml:3:21: \"1Gb/s\"", "Gbit/s"},
    {HEAD "classes: {a: {rate: 1us, delay: 1us}}\n" LEVEL, "m.yaml:3:21", "50GB/s"},
    {HEAD "classes: {a: {rate: 1GB/s, delay: 1GB/s}}\n" LEVEL, "m.yaml:3:35", "500ns"},
    {HEAD "classes: {a: {rate: 1GB/s, delay: 1us, cost: 1}}\n" LEVEL, "m.yaml:3:46", "unit"},
    {HEAD "classes: {a: {rate: \"1GB/s,o=1\", delay: 1us}}\n" LEVEL, "m.yaml:3:22", "remove \",\""},
    {HEAD "classes: {a: {rate: , delay: 1us}}\n" LEVEL, "m.yaml:3:21", "lacks its value"},
    {HEAD CLASS "levels: 3\n", "m.yaml:4:9", "list from the inside out"},
    {HEAD CLASS "levels: []\n", "m.yaml:4:9", "give `sides`"},
    {HEAD CLASS "levels: [{of: 2, links: a}]\n", "m.yaml:4:10", "lacks its name"},
    {HEAD CLASS "levels: [{name: t, of: 2}]\n", "m.yaml:4:10", "lacks `links`"},
    {HEAD CLASS "levels: [{name: t, links: a}]\n", "m.yaml:4:10", "needs `of`"},
    {HEAD CLASS "levels: [{name: t, of: 2, links: b}]\n", "m.yaml:4:34: \"b\"", "add it to `classes`"},
    {HEAD CLASS "levels: [{name: t, of: 2y2, links: a}]\n", "m.yaml:4:24: \"2y2\"", "such as 2x3"},
    {HEAD CLASS "levels: [{name: t, of: 0, links: a}]\n", "m.yaml:4:24: \"0\"", "such as 2x3"},
    {HEAD CLASS "levels: [{name: t, of: 2x2x2x2x2, links: a}]\n", "m.yaml:4:24", "1 to 4 numbers"},
    {HEAD CLASS "levels: [{name: t, of: 65536, links: a}, {name: u, of: 65536, links: a}]\n", "m.yaml:4:56",
     "repeat less"},
    {HEAD CLASS "levels: [{name: t, of: 99999999999999999999, links: a}]\n", "m.yaml:4:24", "repeat less"},
    {HEAD CLASS "levels: [{name: 7, of: 2, links: a}]\n", "m.yaml:4:17: \"7\" is no name", "a letter first"},
    {HEAD CLASS "levels: [{name: t, of: 2, links: a}, {name: t, of: 2, links: a}]\n", "m.yaml:4:45: \"t\"",
     "its own name"},
    {HEAD CLASS "levels: [{name: t, nodes: 2, links: a}]\n", "m.yaml:4:27", "says `of`"},
    {HEAD CLASS "sides: 4\nlinks: a\nlevels: [{name: t, of: 2, links: a}]\n", "m.yaml:6:24", "says `nodes`"},
    {HEAD CLASS "sides: 4\nlinks: a\nlevels: [{name: t, nodes: 5, links: a}]\n", "m.yaml:6:27: \"5\"",
     "larger than the grid"},
    {HEAD CLASS "sides: 4\nlinks: a\nlevels: [{name: t, nodes: 3, before: 3, links: a}]\n", "m.yaml:6:38: \"3\"",
     "shift them less"},
    {HEAD CLASS "sides: 4\n", "m.yaml:4:8", "needs `links`"},
    {HEAD CLASS LEVEL "links: a\n", "m.yaml:6:8", "remove this"},
    {HEAD CLASS "sides: 4xx4\nlinks: a\n", "m.yaml:4:8: \"4xx4\"", "write sides such as 4x4"},
    {HEAD CLASS LEVEL "wrap: z\n", "m.yaml:6:7: \"z\"", "xy"},
    {HEAD CLASS LEVEL "apart: yx\ndead: 0.0\n", "m.yaml:7:7", "[0.0, 1.2]"},
    {HEAD CLASS LEVEL "dead: [0.0, 0.9]\n", "m.yaml:6:13: \"0.9\" lies outside", "last node is 1.1"},
    {HEAD CLASS LEVEL "dead:\n  - 0.0\n  - 0.0\n", "m.yaml:8:5: \"0.0\"", "listed twice"},
    {HEAD CLASS LEVEL "dead: [0.0, [0.1]]\n", "m.yaml:6:13", "one value"},
    {HEAD CLASS LEVEL "dead: [0.0, 0.1, 1.0, 1.1]\n", "m.yaml:6:7", "at least one rank"},
    {HEAD CLASS LEVEL "cut: [0.0-1.1]\n", "m.yaml:6:7: \"0.0-1.1\"", "differ by one"},
    {HEAD CLASS LEVEL "cut: [0.0-7.1]\n", "m.yaml:6:11: \"7.1\"", "last node is 1.1"},
    {HEAD CLASS LEVEL "map: [0, 1, 2]\n", "m.yaml:6:6", "3 entries for 4 ranks"},
    {HEAD CLASS LEVEL "messages: often\n", "m.yaml:6:11: \"often\"", "routed, neighbours or memory"},
    {HEAD CLASS LEVEL "planes: [{name: s, links: a}]\n", "m.yaml:6:10", "lacks `nodes`"},
    {HEAD CLASS LEVEL "planes: [{name: s, links: a, nodes: []}]\n", "m.yaml:6:37", "joins no nodes"},
    {HEAD CLASS LEVEL "planes: [{name: s, links: a, nodes: [\"*.0\", \"*.7\"]}]\n", "m.yaml:6:46: \"*.7\"",
     "below its side"},
    {HEAD CLASS LEVEL "planes: [{name: s, links: a, nodes: [*.0]}]\n", "m.yaml:6:39",
     "quote texts that begin with '*'"},
    {HEAD CLASS LEVEL "planes: [{name: s, links: a, nodes: [*x]}]\n", "m.yaml:6:38", "quote texts that begin with '*'"},
    {HEAD CLASS LEVEL "dead: &x [0.0]\n", "m.yaml:6:7", "remove the word after '&'"},
    {HEAD CLASS LEVEL "dead: !!set [0.0]\n", "m.yaml:6:7", "remove the word after '!'"},
    {HEAD "---\n" CLASS, "m.yaml:3:1", "one machine"},
    {HEAD "shape: {\n", "m.yaml:4:1", "no YAML"},
    {HEAD "\tshape: mesh\n", "m.yaml:3:1", "no YAML"},
    {"a: [[[[[[[[[[[[", "m.yaml:1:11", "more than 8 deep"},
    {HEAD "[a]: 1\n", "m.yaml:3:1", "a key is a word"},
    {"\xff\xfe\x00", "m.yaml: byte", "plain UTF-8"},
};

static void mistakes_name_file_line_column_and_remedy(void** state) {
  (void)state;
  for (size_t i = 0; i < MCI_COUNT(mistakes); i++) {
    mci_topo* topo = NULL;
    meshcclResult_t result = mci_machine_parse(mistakes[i][0], strlen(mistakes[i][0]), "m.yaml", &topo);
    if (result != meshcclInvalidArgument || topo) fail_msg("%s: %s", mistakes[i][0], mci_result_text(result));
    for (int part = 1; part < 3; part++)
      if (!strstr(mci_error_last(), mistakes[i][part]))
        fail_msg("%s\"%s\" lacks \"%s\"", mistakes[i][0], mci_error_last(), mistakes[i][part]);
  }
}

static void limits_hold(void** state) {
  (void)state;
  mci_topo* topo = NULL;
  mci_str text = {0};
  check_fails(mci_machine_parse("", (size_t)MCI_MACHINE_MAX_BYTES + 1, "m.yaml", &topo), meshcclInvalidArgument,
              "has at most 4194304");
  mci_str_add(&text, HEAD CLASS LEVEL "dead: [");
  for (int i = 0; i < 1100000; i++) mci_str_add(&text, "0,");
  check_fails(mci_machine_parse(text.text, text.length, "m.yaml", &topo), meshcclInvalidArgument, "1048576 entries");
  mci_str_fini(&text);
  mci_str_add(&text, HEAD "wrap: ");
  for (int i = 0; i < 1100; i++) mci_str_add(&text, "x");
  check_fails(mci_machine_parse(text.text, text.length, "m.yaml", &topo), meshcclInvalidArgument, "m.yaml:3:7");
  mci_str_fini(&text);
  mci_str_add(&text, HEAD LEVEL "classes:\n");
  for (int i = 0; i < 65; i++) mci_str_add(&text, "  a%d: {rate: 1GB/s, delay: 1us}\n", i);
  check_fails(mci_machine_parse(text.text, text.length, "m.yaml", &topo), meshcclInvalidArgument,
              "m.yaml:70:3: one class too many");
  mci_str_fini(&text);
  check_fails(mci_machine_parse(HEAD "wrap: \"x\\0\"\n", strlen(HEAD "wrap: \"x\\0\"\n"), "m.yaml", &topo),
              meshcclInvalidArgument, "zero byte");
  static const char cut[] = HEAD CLASS LEVEL "planes: [{name: s, links: a, nodes: [\"*.0\"]}]\nmap: [3, 1, 0, 2]\n";
  for (size_t length = 0; length < sizeof cut - 1;
       length++) { /* every cut is refused or means something, never crashes */
    meshcclResult_t result = mci_machine_parse(cut, length, "m.yaml", &topo);
    if (result == meshcclSuccess) mci_topo_destroy(topo);
    if (result != meshcclSuccess && !strstr(mci_error_last(), "m.yaml")) fail_msg("%zu: %s", length, mci_error_last());
  }
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
  (void)state;
  static const char text[] = HEAD CLASS LEVEL "planes: [{name: s, links: a, nodes: [\"*.0\"]}]\nmap: [3, 1, 0, 2]\n";
  bool failed = true;
  int64_t calls = 1;
  for (; failed; calls++) {
    mci_topo* topo = NULL;
    mci_str out = {0};
    mci_alloc_fail_after(calls);
    meshcclResult_t result = mci_machine_parse(text, sizeof text - 1, "m.yaml", &topo);
    if (result == meshcclSuccess) result = mci_machine_print(topo, &out);
    mci_alloc_fail_after(-1);
    failed = result != meshcclSuccess;
    if (failed) assert_int_equal(result, meshcclSystemError);
    mci_str_fini(&out);
    mci_topo_destroy(topo);
  }
  assert_true(calls > 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shipped_machines_are_what_they_say),
      cmocka_unit_test(every_topology_prints_as_a_machine_that_reads_back),
      cmocka_unit_test(the_canonical_text),
      cmocka_unit_test(mistakes_name_file_line_column_and_remedy),
      cmocka_unit_test(limits_hold),
      cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
