/* Text that may be cut to fit a buffer. */
#ifndef VISATB_COMMON_TEXT_H
#define VISATB_COMMON_TEXT_H

/* Removes the bytes of a last UTF-8 character that was cut in two, so that what is left is UTF-8 if the whole
 * was. */
void text_end_whole(char *text);

#endif
