/* A library with the interface of OpenBLAS, for tests of how ours deals with one: it multiplies by the
 * definition, and counts the calls that came while its number of threads was not one, and how many came at
 * once. PREFIX, CONFIG and CORE are its names; FAKE_OPENBLAS_CONFIG in the environment replaces CONFIG, and
 * FAKE_OPENBLAS_SLOW makes every call last long enough to meet others. */
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define JOINED_TO(prefix, name) prefix##name
#define JOINED(prefix, name) JOINED_TO(prefix, name)
#define NAMED(name) JOINED(PREFIX, name)

enum { TURNED = 112 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int threads = 5;
static int calls;
static int calls_with_threads;
static int calls_now;
static int most_calls_at_once;

static const char *environment(const char *name) {
    return getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody changes it */
}

static void begin_call(void) {
    pthread_mutex_lock(&mutex);
    calls += 1;
    calls_with_threads += threads != 1;
    calls_now += 1;
    if (calls_now > most_calls_at_once)
        most_calls_at_once = calls_now;
    pthread_mutex_unlock(&mutex);
    if (environment("FAKE_OPENBLAS_SLOW") != NULL)
        (void)poll(NULL, 0, 50);
}

static void end_call(void) {
    pthread_mutex_lock(&mutex);
    calls_now -= 1;
    pthread_mutex_unlock(&mutex);
}

static double element(bool wide, const void *matrix, int i) {
    return wide ? ((const double *)matrix)[i] : (double)((const float *)matrix)[i];
}

static void put(bool wide, void *matrix, int i, double value) {
    if (wide)
        ((double *)matrix)[i] = value;
    else
        ((float *)matrix)[i] = (float)value;
}

typedef struct operand {
    const void *start;
    int stride;
    int turn;
} operand;

static double element_of(bool wide, operand of, int row, int column) {
    return element(wide, of.start, of.turn == TURNED ? column * of.stride + row : row * of.stride + column);
}

static void multiply(bool wide, int rows, int columns, int depth, operand a, operand b, bool accumulate,
                     void *c, int c_stride) {
    begin_call();
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < columns; ++j) {
            double sum = accumulate ? element(wide, c, i * c_stride + j) : 0;
            for (int k = 0; k < depth; ++k)
                sum += element_of(wide, a, i, k) * element_of(wide, b, k, j);
            put(wide, c, i * c_stride + j, sum);
        }
    end_call();
}

void NAMED(cblas_sgemm)(int order, int turn_a, int turn_b, int rows, int columns, int depth, float alpha,
                        const float *a, int a_stride, const float *b, int b_stride, float beta, float *c,
                        int c_stride);
void NAMED(cblas_sgemm)(int order, int turn_a, int turn_b, int rows, int columns, int depth, float alpha,
                        const float *a, int a_stride, const float *b, int b_stride, float beta, float *c,
                        int c_stride) {
    (void)order;
    (void)alpha;
    multiply(false, rows, columns, depth, (operand){a, a_stride, turn_a}, (operand){b, b_stride, turn_b},
             beta != 0, c, c_stride);
}

void NAMED(cblas_dgemm)(int order, int turn_a, int turn_b, int rows, int columns, int depth, double alpha,
                        const double *a, int a_stride, const double *b, int b_stride, double beta, double *c,
                        int c_stride);
void NAMED(cblas_dgemm)(int order, int turn_a, int turn_b, int rows, int columns, int depth, double alpha,
                        const double *a, int a_stride, const double *b, int b_stride, double beta, double *c,
                        int c_stride) {
    (void)order;
    (void)alpha;
    multiply(true, rows, columns, depth, (operand){a, a_stride, turn_a}, (operand){b, b_stride, turn_b},
             beta != 0, c, c_stride);
}

const char *NAMED(openblas_get_config)(void);
const char *NAMED(openblas_get_config)(void) {
    const char *config = environment("FAKE_OPENBLAS_CONFIG");
    return config != NULL ? config : CONFIG;
}

const char *NAMED(openblas_get_corename)(void);
const char *NAMED(openblas_get_corename)(void) {
    return CORE;
}

int NAMED(openblas_get_num_threads)(void);
int NAMED(openblas_get_num_threads)(void) {
    pthread_mutex_lock(&mutex);
    const int now = threads;
    pthread_mutex_unlock(&mutex);
    return now;
}

void NAMED(openblas_set_num_threads)(int wanted);
void NAMED(openblas_set_num_threads)(int wanted) {
    pthread_mutex_lock(&mutex);
    threads = wanted;
    pthread_mutex_unlock(&mutex);
}

int fake_calls(void);
int fake_calls(void) {
    return calls;
}

int fake_calls_with_threads(void);
int fake_calls_with_threads(void) {
    return calls_with_threads;
}

int fake_most_calls_at_once(void);
int fake_most_calls_at_once(void) {
    return most_calls_at_once;
}
