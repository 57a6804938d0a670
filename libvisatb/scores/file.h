/* Whole files in and out. */
#ifndef VISATB_SCORES_FILE_H
#define VISATB_SCORES_FILE_H

#include "visatb.h"

/* Reads the whole file into *text (NUL-terminated, length excludes it); free() it. */
visatb_status file_read(const char *function, const char *path, char **text, size_t *length);

/* Writes beside the path and renames, so that the file appears whole or not at all. */
visatb_status file_write(const char *function, const char *path, const char *text, size_t length);

#endif
