/* Texts against recorded ones, for tests that print a whole table. */
#ifndef TEST_GOLDEN_H
#define TEST_GOLDEN_H

/* Fails at the first line of the file that the text does not have, or where either ends early. */
void check_golden(const char* path, const char* text);
/* Records the text; the exit status of a program that does just that. */
int update_golden(const char* path, const char* text);
#endif
