/* MESHCCL_FAULT: which texts are refused, whom a rule concerns, and what each fault does to messages and callers. */
#include "base/globals.h"
#include "host.h"
#include "transport/fault.h"
#include "transport/registry.h"

static const meshcclTransport_t* table_of(const char* name, const char* faults) {
  const meshcclTransport_t* list[MCI_MAX_PLUGINS];
  uint32_t n = 0;
  if (faults) {
    setenv("MESHCCL_FAULT", faults, 1);
  } else {
    unsetenv("MESHCCL_FAULT");
  }
  mci_params_reload();
  check_ok(mci_transport_load());
  check_ok(mci_transport_list(list, &n, MCI_MAX_PLUGINS));
  for (uint32_t i = 0; i < n; i++)
    if (strcmp(list[i]->name, name) == 0) return list[i];
  fail_msg("no transport %s", name);
  return NULL;
}

/* ---- two or three ranks in one thread, over shm ---- */

typedef struct {
  const meshcclTransport_t* table;
  struct test_host host;
  void* ctx;
  void* ep[3];
  int tags[3];
  unsigned char address[MESHCCL_ADDRESS_BYTES];
  size_t bytes;
  uint32_t numbers[64]; /* of arrivals */
  const void* from[64];
  int narrived;
} party;

static void note_arrival(struct test_host* host, void* peer, const void* header, size_t bytes, const void* data) {
  party* p = host->user;
  (void)bytes, (void)data;
  p->from[p->narrived] = peer;
  memcpy(&p->numbers[p->narrived++], header, sizeof p->numbers[0]);
}

static void parties_open(party* p, int n, const char* faults) {
  const meshcclTransport_t* table = table_of("shm", faults);
  for (int r = 0; r < n; r++) {
    memset(&p[r], 0, sizeof p[r]);
    p[r].table = table;
    host_init(&p[r].host, r, n);
    p[r].host.user = &p[r];
    p[r].host.on_arrive = note_arrival;
    check_ok(table->open(&p[r].host.table, &p[r].ctx));
    p[r].bytes = sizeof p[r].address;
    check_ok(table->address(p[r].ctx, p[r].address, &p[r].bytes));
  }
  for (int r = 0; r < n; r++)
    for (int s = 0; s < n; s++)
      if (s != r) check_ok(table->connect(p[r].ctx, &p[r].tags[s], s, p[s].address, p[s].bytes, &p[r].ep[s]));
}

static void parties_close(party* p, int n) {
  for (int r = 0; r < n; r++)
    for (int s = 0; s < n; s++)
      if (p[r].ep[s]) p[r].table->disconnect(p[r].ep[s]);
  for (int r = 0; r < n; r++) p[r].table->close(p[r].ctx);
}

static void pump(party* p, int n) {
  for (int round = 0; round < 50; round++)
    for (int r = 0; r < n; r++) p[r].table->progress(p[r].ctx);
}

static meshcclResult_t put(party* from, int to, uint32_t number) {
  unsigned char header[MESHCCL_HEADER_BYTES] = {0};
  meshcclPiece_t piece = {"payload", 7};
  memcpy(header, &number, sizeof number);
  return from->table->send(from->ep[to], header, &piece, 1, NULL);
}

/* ---- texts and tables ---- */

static void bad_texts_name_place_and_remedy(void** state) {
  (void)state;
  static const struct {
    const char *text, *part;
  } rows[] = {{"", "character 1"},
              {"tcp", "a transport's name"},
              {"tcp:", "character 5"},
              {":drop=1", "character 1"},
              {"tcp:jump=1", "character 5 (\"jump=1\"): this is not a key"},
              {"tcp:drop=", "a whole number is missing"},
              {"tcp:drop=0", "out of range"},
              {"tcp:drop=-1", "a whole number is missing"},
              {"tcp:drop=99999999999999999999", "out of range"},
              {"tcp:rank=4000000000,drop=1", "out of range"},
              {"tcp:delay=5", "needs a unit"},
              {"tcp:delay=5ms..", "a whole number is missing"},
              {"tcp:delay=5ms..4ms", "the shorter one"},
              {"tcp:drop=1x", "a comma or a semicolon"},
              {"tcp:drop=1;shm", "character 12"},
              {"tcp:rank=1", "does nothing"},
              {"a-name-that-is-longer-than-any-transport:drop=1", "character 1"}};
  mci_fault_plan plan = {.n = 77};
  for (size_t i = 0; i < MCI_COUNT(rows); i++) {
    check_fails(mci_fault_parse(rows[i].text, &plan), meshcclInvalidArgument, rows[i].part);
    check_fails(mci_fault_parse(rows[i].text, &plan), meshcclInvalidArgument, "write TRANSPORT:key=value");
    assert_int_equal(plan.n, 77);
  }
  char many[200] = "";
  for (int i = 0; i <= MCI_FAULT_RULES; i++) strcat(many, "a:drop=1;");
  check_fails(mci_fault_parse(many, &plan), meshcclInvalidArgument, "more than 16 rules");
}

static void texts_say_what_they_mean(void** state) {
  (void)state;
  mci_fault_plan plan;
  check_ok(mci_fault_parse("tcp:delay=5ms,stall=200,reset=100,drop=300,rank=1,seed=7;*:delay=1us..2s,peer=0,size=4;",
                           &plan));
  assert_int_equal(plan.n, 2);
  const mci_fault_rule *a = &plan.rules[0], *b = &plan.rules[1];
  assert_true(strcmp(a->transport, "tcp") == 0 && a->delay_ns == 5000000 && a->most_delay_ns == 5000000);
  assert_true(a->from[MCI_FAULT_STALL] == 200 && a->from[MCI_FAULT_RESET] == 100 && a->from[MCI_FAULT_DROP] == 300);
  assert_true(a->rank == 1 && a->peer == MCI_FAULT_ANY && a->size == MCI_FAULT_ANY && a->seed == 7);
  assert_true(b->delay_ns == 1000 && b->most_delay_ns == 2000000000u && b->rank == MCI_FAULT_ANY);
  assert_true(b->peer == 0 && b->size == 4 && b->from[MCI_FAULT_DROP] == 0);
  assert_true(mci_fault_concerns(&plan, "anything"));
}

static void tables_are_the_transports_own_without_faults(void** state) {
  (void)state;
  const meshcclTransport_t *own = table_of("shm", NULL), *all[MCI_MAX_PLUGINS];
  uint32_t n = mci_transport_all(all, MCI_MAX_PLUGINS);
  bool found = false;
  for (uint32_t i = 0; i < n; i++) found |= all[i] == own;
  assert_true(found);
  assert_ptr_equal(table_of("shm", "self:drop=1"), own);
  const meshcclTransport_t* faulty = table_of("shm", "shm:drop=1");
  assert_ptr_not_equal(faulty, own);
  assert_ptr_equal(table_of("shm", "*:stall=1"), faulty);
  assert_ptr_equal(table_of("shm", NULL), own);
}

static void an_unknown_transport_is_named_with_the_known(void** state) {
  (void)state;
  const meshcclTransport_t* list[MCI_MAX_PLUGINS];
  uint32_t n = 0;
  setenv("MESHCCL_FAULT", "tpc:drop=1", 1);
  mci_params_reload();
  check_fails(mci_transport_list(list, &n, MCI_MAX_PLUGINS), meshcclInvalidArgument, "MESHCCL_FAULT names \"tpc\"");
  check_fails(mci_transport_list(list, &n, MCI_MAX_PLUGINS), meshcclInvalidArgument, "self, shm");
}

/* ---- faults ---- */

static void drop_is_silent_in_both_directions(void** state) {
  (void)state;
  party p[2];
  parties_open(p, 2, "shm:drop=3,rank=1");
  for (uint32_t i = 0; i < 2; i++) check_ok(put(&p[0], 1, i));
  pump(p, 2);
  for (uint32_t i = 0; i < 5; i++) {
    check_ok(put(&p[0], 1, 10 + i));
    check_ok(put(&p[1], 0, 20 + i));
    pump(p, 2);
  }
  assert_int_equal(p[1].narrived, 2);
  assert_int_equal(p[0].narrived, 0);
  assert_int_equal(p[0].host.broken + p[1].host.broken + p[0].host.failures + p[1].host.failures, 0);
  parties_close(p, 2);
}

static void stall_is_busy_for_ever(void** state) {
  (void)state;
  party p[2];
  parties_open(p, 2, "shm:stall=2,rank=0");
  check_ok(put(&p[0], 1, 1));
  for (int i = 0; i < 20; i++) {
    assert_int_equal(put(&p[0], 1, 2), meshcclBusy);
    check_ok(put(&p[1], 0, 3));
    pump(p, 2);
  }
  assert_int_equal(p[1].narrived, 1);
  assert_int_equal(p[0].narrived, 0);
  assert_int_equal(p[0].host.failures + p[0].host.broken, 0);
  parties_close(p, 2);
}

static void reset_breaks_every_endpoint_once(void** state) {
  (void)state;
  party p[3];
  parties_open(p, 3, "shm:reset=2,rank=0");
  check_ok(put(&p[0], 1, 1));
  assert_int_equal(put(&p[0], 1, 2), meshcclBusy);
  assert_int_equal(p[0].table->arm(p[0].ctx), meshcclBusy);
  pump(p, 3);
  assert_int_equal(p[0].host.broken, 2);
  check_fails(put(&p[0], 1, 3), meshcclRemoteError, "rank 1 is broken");
  check_fails(put(&p[0], 2, 3), meshcclRemoteError, "rank 2 is broken");
  check_ok(put(&p[1], 0, 4));
  check_ok(put(&p[1], 2, 5));
  pump(p, 3);
  assert_int_equal(p[0].narrived, 0);
  assert_int_equal(p[2].narrived, 1);
  assert_int_equal(p[0].host.broken, 2);
  parties_close(p, 3);
}

static void a_rule_for_one_peer_spares_the_others(void** state) {
  (void)state;
  party p[3];
  parties_open(p, 3, "shm:drop=1,rank=0,peer=1;shm:reset=1,rank=2,size=4");
  for (uint32_t i = 0; i < 3; i++) {
    check_ok(put(&p[0], 1, i));
    check_ok(put(&p[0], 2, i));
    check_ok(put(&p[2], 1, i));
  }
  pump(p, 3);
  assert_int_equal(p[1].narrived, 3); /* of rank 2 */
  assert_int_equal(p[2].narrived, 3); /* of rank 0, and the size is not 4 */
  assert_ptr_equal(p[1].from[0], &p[1].tags[2]);
  assert_int_equal(p[2].host.broken, 0);
  parties_close(p, 3);
}

static void delayed_messages_come_later_and_in_order(void** state) {
  (void)state;
  party p[2];
  parties_open(p, 2, "shm:delay=1ms..20ms,rank=0,seed=5");
  uint64_t began = mci_now_ns();
  for (uint32_t i = 0; i < 10; i++) check_ok(put(&p[0], 1, i));
  while (p[1].narrived < 10) {
    pump(p, 2);
    if (p[1].narrived) assert_true(mci_now_ns() - began >= 1000000);
    assert_true(mci_now_ns() - began < 60000000000u);
  }
  for (uint32_t i = 0; i < 10; i++) assert_int_equal(p[1].numbers[i], i);
  parties_close(p, 2);
}

static void what_is_held_goes_out_before_a_disconnect(void** state) {
  (void)state;
  party p[2];
  parties_open(p, 2, "shm:delay=1s,rank=0");
  for (uint32_t i = 0; i < 5; i++) check_ok(put(&p[0], 1, i));
  p[0].table->disconnect(p[0].ep[1]);
  p[0].ep[1] = NULL;
  pump(p, 2);
  assert_int_equal(p[1].narrived, 5);
  parties_close(p, 2);
}

static void held_messages_make_a_sender_busy_in_the_end(void** state) {
  (void)state;
  party p[2];
  parties_open(p, 2, "shm:delay=100s,rank=0");
  meshcclResult_t result = meshcclSuccess;
  uint32_t taken = 0;
  for (; taken < 100000 && result == meshcclSuccess; taken++) result = put(&p[0], 1, taken);
  assert_int_equal(result, meshcclBusy);
  parties_close(p, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bad_texts_name_place_and_remedy),
      cmocka_unit_test(texts_say_what_they_mean),
      cmocka_unit_test(tables_are_the_transports_own_without_faults),
      cmocka_unit_test(an_unknown_transport_is_named_with_the_known),
      cmocka_unit_test(drop_is_silent_in_both_directions),
      cmocka_unit_test(stall_is_busy_for_ever),
      cmocka_unit_test(reset_breaks_every_endpoint_once),
      cmocka_unit_test(a_rule_for_one_peer_spares_the_others),
      cmocka_unit_test(delayed_messages_come_later_and_in_order),
      cmocka_unit_test(what_is_held_goes_out_before_a_disconnect),
      cmocka_unit_test(held_messages_make_a_sender_busy_in_the_end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
