/* A load generator: content servers that ask for claims, each over a connection of its own.
 *
 *     load --port P --prefix TOPICS --tag T --payload TEMPLATE (--in-flight K | --rate R) [--servers N] [--payees N]
 *          [--first N] [--batch B] [--match correlation|id] [--warm-up S] [--seconds S] [--drain S] [--watch PID]...
 *
 * Closed loop: K requests are on their way, and every reply makes room for the next; the latency of one runs from its
 * sending. Open loop: requests fall due at random (Poisson) moments, R a second, whatever the replies do; the latency
 * of one runs from the moment it was due, so that a stalled responder cannot hide by slowing down those who ask.
 *
 * The servers are called bench-N, from --first (0) on. In the payload %i becomes an id that is never used twice, %t the payee's number (1..N for the first server, the next
 * N for the second, ...), %u a user's number. With --batch a payload is an array of B of them and B requests count.
 * Prints one line of JSON; times are milliseconds unless a name says otherwise, cpu_s is what the watched processes
 * and this one (last) used while measuring. Unanswered requests are not asked again. */
#define _GNU_SOURCE
#include "mqtt.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WATCHED = 8, USERS = 1000, REMEMBERED = 1 << 20, SAMPLE = 300, MOST_PAYLOAD = 1 << 20 };
enum { SUB_BITS = 7, SUB = 1 << SUB_BITS, CELLS = SUB * (64 - SUB_BITS) };

struct server {
    struct link link;
    unsigned number;
    char topic[256];
    size_t topic_size;
    uint64_t due, sent; /* requests that fell due, and that were sent: n is the n-th of this server, from 0 */
    uint64_t *due_at;   /* by n modulo ring size: nanoseconds, 0 once answered */
};

static struct {
    int port, servers, first, payees, batch, in_flight;
    double rate, warm_up, seconds, drain;
    const char *prefix, *tag, *payload;
    bool by_id;
    int watched, watch[MOST_WATCHED];
} options = {.servers = 16, .payees = 16, .batch = 1, .warm_up = 0.5, .seconds = 3, .drain = 5};

static enum { WARMING, MEASURING, DRAINING } phase;
static struct server *servers;
static uint64_t ring_mask, measure_from, measure_to, give_up_at, next_due;
static uint64_t answered, accepted, rejected, strays, accepted_in_time, open_requests;
static uint64_t histogram[CELLS], slowest;
static char sample[SAMPLE], *scratch;
static double cpu_s[MOST_WATCHED + 1];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* -- latency: cells of 1/128 of their value, as in an HDR histogram ------------------------------------------------ */

static size_t cell_of(uint64_t ns) {
    if (ns < SUB) return ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return (size_t)(shift + 1) * SUB + (ns >> shift) - SUB;
}

static double cell_ms(size_t cell) {
    if (cell < SUB) return (double)cell / 1e6;
    unsigned shift = (unsigned)(cell / SUB) - 1;
    return ((double)(cell % SUB + SUB) + 0.5) * (double)(1ull << shift) / 1e6;
}

static double percentile_ms(double share) {
    uint64_t wanted = (uint64_t)ceil(share * (double)answered), seen = 0;
    for (size_t cell = 0; cell < CELLS; cell++)
        if (wanted && (seen += histogram[cell]) >= wanted) return fmin(cell_ms(cell), (double)slowest / 1e6);
    return 0;
}

/* -- processor time ------------------------------------------------------------------------------------------------ */

/* Seconds of processor time that a process has used, all threads; 0 if it is gone. */
static double used_s(int pid) {
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = 0;
    char *name_end = strrchr(text, ')'); /* a name may hold anything, a bracket too */
    if (!name_end || sscanf(name_end, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void count_cpu(double sign) {
    for (int n = 0; n <= options.watched; n++)
        cpu_s[n] += sign * used_s(n < options.watched ? options.watch[n] : getpid());
}

/* -- asking ---------------------------------------------------------------------------------------------------------- */

static char *put_number(char *at, uint64_t value, unsigned base) {
    char digits[24];
    int size = 0;
    do digits[size++] = "0123456789abcdef"[value % base]; while (value /= base);
    while (size) *at++ = digits[--size];
    return at;
}

/* The id of the `item`-th of request n: tag.server.n.item; `asked_for` reads n back. */
static char *put_id(char *at, const struct server *s, uint64_t n, uint64_t item) {
    at = stpcpy(at, options.tag);
    *at++ = '.';
    at = put_number(at, s->number, 16);
    *at++ = '.';
    at = put_number(at, n, 16);
    *at++ = '.';
    return put_number(at, item, 16);
}

static char *put_item(char *at, const struct server *s, uint64_t n, uint64_t item) {
    const uint64_t count = n * (uint64_t)options.batch + item, payees = (uint64_t)options.payees;
    for (const char *from = options.payload, *mark;; from = mark + 2) {
        mark = strchrnul(from, '%');
        at = mempcpy(at, from, (size_t)(mark - from));
        if (!*mark) return at;
        switch (mark[1]) {
        case 'i': at = put_id(at, s, n, item); break;
        case 't': at = put_number(at, s->number * payees + count % payees + 1, 10); break;
        case 'u': at = put_number(at, count % USERS, 10); break;
        default: die("--payload: %%i, %%t and %%u are known");
        }
    }
}

static size_t put_payload(const struct server *s, uint64_t n) {
    char *at = scratch;
    if (options.batch == 1) return (size_t)(put_item(at, s, n, 0) - scratch);
    for (int item = 0; item < options.batch; item++) {
        *at++ = item ? ',' : '[';
        at = put_item(at, s, n, (uint64_t)item);
    }
    *at++ = ']';
    return (size_t)(at - scratch);
}

/* Note that a request falls due at `at`; `send_due` sends it as soon as the broker's window allows. */
static void fall_due(struct server *s, uint64_t at) {
    uint64_t *slot = &s->due_at[s->due & ring_mask];
    if (*slot) die("more than %llu requests of one server wait for a reply", (unsigned long long)ring_mask + 1);
    *slot = at;
    s->due++;
    open_requests++;
}

static void send_due(struct server *s) {
    for (; s->sent < s->due; s->sent++) {
        uint64_t n = s->sent;
        size_t size = put_payload(s, n);
        if (!link_publish(&s->link, s->topic, s->topic_size, &n, sizeof n, scratch, size)) break;
    }
    link_flush(&s->link);
}

/* -- replies --------------------------------------------------------------------------------------------------------- */

/* Which request of its server a message answers; UINT64_MAX if it does not say. */
static uint64_t asked_for(const struct message *m) {
    uint64_t n = UINT64_MAX;
    if (!options.by_id) {
        if (m->correlation_size == sizeof n) memcpy(&n, m->correlation, sizeof n);
        return n;
    }
    const char *at = memmem(m->payload, m->payload_size, "\"id\":\"", 6);
    const char *end = (const char *)m->payload + m->payload_size;
    for (int dots = 0; at && dots < 2; dots++)
        if ((at = memchr(at, '.', (size_t)(end - at)))) at++;
    return at ? strtoull(at, NULL, 16) : n; /* a reply never ends within an id */
}

static uint64_t count_accepted(const struct message *m) {
    static const char word[] = "\"accepted\"";
    const char *at = (const char *)m->payload, *end = at + m->payload_size;
    uint64_t count = 0;
    while ((at = memmem(at, (size_t)(end - at), word, sizeof word - 1))) {
        count++;
        at += sizeof word - 1;
        if (options.batch == 1) break;
    }
    return count;
}

static void keep_sample(const struct message *m) {
    size_t size = m->payload_size < SAMPLE ? m->payload_size : SAMPLE - 1;
    if (!sample[0]) memcpy(sample, m->payload, size);
}

static void record(const struct message *m, uint64_t due_at, uint64_t now) {
    uint64_t items = (uint64_t)options.batch, good = count_accepted(m);
    if (good < items) keep_sample(m);
    if (phase == MEASURING) accepted_in_time += good;
    if (options.in_flight ? phase != MEASURING : due_at < measure_from || due_at >= measure_to) return;
    answered++;
    accepted += good;
    rejected += items - good;
    histogram[cell_of(now - due_at)]++;
    if (now - due_at > slowest) slowest = now - due_at;
}

static void replied(struct server *s, const struct message *m, uint64_t now) {
    link_acknowledge(&s->link, m->id);
    uint64_t n = asked_for(m), *slot = &s->due_at[n & ring_mask];
    if (n >= s->sent || s->sent - n > ring_mask + 1 || !*slot) {
        strays++;
        return;
    }
    record(m, *slot, now);
    *slot = 0;
    open_requests--;
    if (options.in_flight && phase != DRAINING) fall_due(s, now);
}

static void serve(struct server *s, uint32_t events) {
    struct message m;
    if (events & ~(uint32_t)EPOLLOUT) link_read(&s->link);
    uint64_t now = now_ns();
    for (enum packet kind; (kind = link_next(&s->link, &m)) != NOTHING;)
        if (kind == PUBLISH) replied(s, &m, now);
    send_due(s);
}

/* -- time ------------------------------------------------------------------------------------------------------------ */

/* Nanoseconds to the next request of a Poisson process; the same sequence in every run. */
static uint64_t gap_ns(void) {
    static uint64_t state = 88172645463325252u; /* xorshift64 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    double uniform = ((double)(state >> 11) + 1) / 9007199254740993.0;
    return (uint64_t)(-log(uniform) * 1e9 / options.rate);
}

static void ask_what_is_due(uint64_t now) {
    static unsigned turn;
    for (; phase != DRAINING && next_due <= now; next_due += gap_ns()) {
        fall_due(&servers[turn], next_due);
        send_due(&servers[turn]);
        turn = (turn + 1) % (unsigned)options.servers;
    }
}

/* Go on to the next phase if it is time; returns the moment at which something is to be done next. */
static uint64_t keep_time(uint64_t now) {
    if (phase == WARMING && now >= measure_from) {
        phase = MEASURING;
        measure_to += now - measure_from;
        give_up_at += now - measure_from;
        measure_from = now;
        count_cpu(-1);
    }
    if (phase == MEASURING && now >= measure_to) {
        phase = DRAINING;
        measure_to = now;
        count_cpu(1);
    }
    uint64_t next = phase == WARMING ? measure_from : phase == MEASURING ? measure_to : give_up_at;
    return options.rate > 0 && phase != DRAINING && next_due < next ? next_due : next;
}

static void set_alarm(int timer, uint64_t at) {
    static uint64_t last;
    if (at == last) return;
    last = at;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void run(int poll, int timer) {
    struct epoll_event events[64];
    for (uint64_t now = now_ns(); phase != DRAINING || (open_requests && now < give_up_at); now = now_ns()) {
        if (options.rate > 0) ask_what_is_due(now);
        set_alarm(timer, keep_time(now));
        int count = epoll_wait(poll, events, 64, -1);
        if (count < 0 && errno != EINTR) die("epoll: %s", strerror(errno));
        for (int n = 0; n < count; n++) {
            uint64_t ticks;
            struct link *link = events[n].data.ptr;
            if (link) serve(link->owner, events[n].events);
            else if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer: %s", strerror(errno));
        }
    }
}

/* -- beginning and end ----------------------------------------------------------------------------------------------- */

static void open_servers(int poll) {
    size_t ring = 1024;
    while (ring * 2 * (size_t)options.servers <= REMEMBERED) ring *= 2;
    ring_mask = ring - 1;
    servers = make((size_t)options.servers * sizeof *servers);
    for (int n = 0; n < options.servers; n++) {
        struct server *s = &servers[n];
        char client[64], filter[256];
        s->number = (unsigned)(options.first + n);
        s->due_at = make(ring * sizeof *s->due_at);
        const char *prefix = options.prefix;
        s->topic_size = (size_t)snprintf(s->topic, sizeof s->topic, "%.200s/servers/bench-%u/claim", prefix, s->number);
        snprintf(filter, sizeof filter, "%.200s/servers/bench-%u/reply", prefix, s->number);
        snprintf(client, sizeof client, "load-%.40s-%u", options.tag, s->number);
        link_open(&s->link, poll, s, (uint16_t)options.port, client, filter);
    }
}

static void begin(void) {
    uint64_t now = now_ns();
    measure_from = now + (uint64_t)(options.warm_up * 1e9);
    measure_to = measure_from + (uint64_t)(options.seconds * 1e9);
    give_up_at = measure_to + (uint64_t)(options.drain * 1e9);
    next_due = now;
    for (int n = 0; n < options.in_flight; n++) fall_due(&servers[n % options.servers], now);
    for (int n = 0; n < options.servers; n++) send_due(&servers[n]);
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        if ((unsigned char)*text >= 0x20) putchar(*text);
    }
    putchar('"');
}

static void report(void) {
    double seconds = (double)(measure_to - measure_from) / 1e9;
    printf("{\"requests\":%llu,\"accepted\":%llu,\"rejected\":%llu,\"unanswered\":%llu,\"strays\":%llu,",
           (unsigned long long)answered * (unsigned)options.batch, (unsigned long long)accepted,
           (unsigned long long)rejected, (unsigned long long)open_requests * (unsigned)options.batch,
           (unsigned long long)strays);
    printf("\"seconds\":%.6f,\"rate\":%.1f,\"p50\":%.4f,\"p99\":%.4f,\"p999\":%.4f,\"max\":%.4f,\"cpu_s\":[", seconds,
           (double)accepted_in_time / seconds, percentile_ms(0.5), percentile_ms(0.99), percentile_ms(0.999),
           (double)slowest / 1e6);
    for (int n = 0; n <= options.watched; n++) printf("%s%.2f", n ? "," : "", cpu_s[n]);
    printf("],\"sample\":");
    print_text(sample);
    puts("}");
}

static void read_options(int count, char **arguments) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},    {"prefix", 1, 0, 'x'}, {"tag", 1, 0, 'i'},     {"payload", 1, 0, 'l'},
        {"servers", 1, 0, 'c'}, {"payees", 1, 0, 'y'}, {"batch", 1, 0, 'b'},   {"in-flight", 1, 0, 'k'},
        {"rate", 1, 0, 'r'},    {"match", 1, 0, 'm'},  {"warm-up", 1, 0, 'w'}, {"seconds", 1, 0, 's'},
        {"drain", 1, 0, 'd'},   {"watch", 1, 0, 'v'},  {"first", 1, 0, 'f'},   {0, 0, 0, 0}};
    for (int letter; (letter = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (letter) {
        case 'p': options.port = atoi(optarg); break;
        case 'x': options.prefix = optarg; break;
        case 'i': options.tag = optarg; break;
        case 'l': options.payload = optarg; break;
        case 'c': options.servers = atoi(optarg); break;
        case 'f': options.first = atoi(optarg); break;
        case 'y': options.payees = atoi(optarg); break;
        case 'b': options.batch = atoi(optarg); break;
        case 'k': options.in_flight = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'm': options.by_id = !strcmp(optarg, "id"); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'd': options.drain = atof(optarg); break;
        case 'v':
            if (options.watched == MOST_WATCHED) die("--watch: at most %d", MOST_WATCHED);
            options.watch[options.watched++] = atoi(optarg);
            break;
        default: exit(2);
        }
    }
    if (!options.port || !options.prefix || !options.tag || !options.payload) die("--port --prefix --tag --payload");
    if ((options.in_flight > 0) == (options.rate > 0)) die("either --in-flight or --rate");
    if (options.servers < 1 || options.payees < 1 || options.batch < 1) die("--servers, --payees, --batch: 1 or more");
    size_t item = strlen(options.payload) + strlen(options.tag) + 100;
    if (item * (size_t)options.batch > MOST_PAYLOAD) die("--payload: too long for this batch");
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1ul);
    scratch = make(MOST_PAYLOAD);
    int poll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (poll < 0 || timer < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event)) die("epoll: %s", strerror(errno));
    open_servers(poll);
    begin();
    run(poll, timer);
    report();
    return 0;
}
