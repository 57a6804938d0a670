#include "common/text.h"

#include <stddef.h>
#include <string.h>

static size_t character_length(unsigned char first) {
    if (first >= 0xf0)
        return 4;
    if (first >= 0xe0)
        return 3;
    return first >= 0xc0 ? 2 : 1;
}

void text_end_whole(char *text) {
    const size_t length = strlen(text);
    size_t start = length;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xc0U) == 0x80)
        start--;
    if (start > 0 && start - 1 + character_length((unsigned char)text[start - 1]) > length)
        text[start - 1] = '\0';
}
