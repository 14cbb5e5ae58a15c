/* All rules of the suite. */
#include "cases.h"

#define PAIR_IN_ALL .parties = 2, .modes = IN_ALL

const suite_traffic suite_traffics[] = {
    {"messages arrive whole and in order", PAIR_IN_ALL, .messages = 5000, .window = 16, .sizes = SIZES_MIXED},
    {"messages without credits arrive in order", PAIR_IN_ALL, .messages = 5000, .sizes = SIZES_TINY},
    {"empty messages are messages", PAIR_IN_ALL, .messages = 3000, .window = 4, .sizes = SIZES_EMPTY},
    {"the largest payload goes through", PAIR_IN_ALL, .messages = 60, .window = 3, .sizes = SIZES_LARGEST},
    {"one credit is enough", PAIR_IN_ALL, .messages = 1000, .window = 1, .sizes = SIZES_MIXED},
    {"pieces are joined at any borders", PAIR_IN_ALL, .messages = 2000, .window = 16, .sizes = SIZES_MIXED,
     .flags = TRAFFIC_PIECES},
    {"a callback may send", PAIR_IN_ALL, .messages = 3000, .window = 8, .sizes = SIZES_MIXED,
     .flags = TRAFFIC_ACK_IN_ARRIVE},
    {"sends before the peer connects are kept or busy", PAIR_IN_ALL, .messages = 500, .window = 16,
     .sizes = SIZES_MIXED, .flags = TRAFFIC_LATE_CONNECT},
    {"a deaf peer makes the sender busy, never blocked", .parties = 2,
     .modes = IN_ONE_THREAD | IN_THREADS | 1u << MODE_PROCESSES, .messages = 4000, .sizes = SIZES_PAGE,
     .flags = TRAFFIC_DEAF | TRAFFIC_ONE_WAY},
    {"disconnect delivers what was accepted", PAIR_IN_ALL, .messages = 300, .sizes = SIZES_MIXED,
     .flags = TRAFFIC_DISCONNECT | TRAFFIC_ONE_WAY},
    {"disconnect delivers large payloads too", PAIR_IN_ALL, .messages = 4, .sizes = SIZES_LARGEST,
     .flags = TRAFFIC_DISCONNECT | TRAFFIC_ONE_WAY},
    {"no wake-up is lost between messages", PAIR_IN_ALL, .messages = 3000, .window = 1, .sizes = SIZES_TINY,
     .flags = TRAFFIC_SLEEP},
    {"no wake-up is lost with a full window", PAIR_IN_ALL, .messages = 2000, .window = 8, .sizes = SIZES_MIXED,
     .flags = TRAFFIC_SLEEP | TRAFFIC_ACK_IN_ARRIVE},
    {"a sleeper that was busy is woken when there is room", PAIR_IN_ALL, .messages = 4000, .sizes = SIZES_PAGE,
     .flags = TRAFFIC_SLEEP | TRAFFIC_ONE_WAY},
    {"three ranks all to all", .parties = 3, .modes = IN_ALL, .messages = 500, .window = 8, .sizes = SIZES_MIXED},
    {"nine ranks all to all", .parties = SUITE_MAX_PARTIES, .modes = IN_ONE_THREAD | IN_THREADS | 1u << MODE_PROCESSES,
     .messages = 60, .window = 4, .sizes = SIZES_MIXED, .flags = TRAFFIC_LATE_CONNECT},
    {"a killed peer blocks nobody", .parties = 3, .modes = 1u << MODE_PROCESSES, .messages = 100000, .window = 8,
     .sizes = SIZES_MIXED, .flags = TRAFFIC_KILL},
};
const size_t suite_traffics_count = MCI_COUNT(suite_traffics);

const suite_case suite_cases[] = {
    {"open and close leave nothing behind", case_cycle_leaves_nothing, IN_ONE_THREAD, 0},
    {"reach knows its addresses", case_reach_knows_its_addresses, IN_ONE_THREAD, 0},
    {"errors have one cause each", case_errors_have_a_cause, IN_ONE_THREAD, 0},
    {"any thread may drive a context", case_any_thread_may_drive, IN_ONE_THREAD, SUITE_THREADS},
    {"an armed handle wakes", case_armed_handle_wakes, IN_ONE_THREAD, 0},
    {"an idle handle calms down", case_idle_handle_calms_down, IN_ONE_THREAD, 0},
    {"map shows the owner's writes or is not supported", case_map_shows_writes, IN_THREADS | 1u << MODE_PROCESSES, 0},
    {"get reads the bytes or is not supported", case_get_reads_the_bytes, IN_THREADS | 1u << MODE_PROCESSES, 0},
    {"put writes the bytes until it is refused", case_put_writes_the_bytes, IN_THREADS | 1u << MODE_PROCESSES, 0},
};
const size_t suite_cases_count = MCI_COUNT(suite_cases);
