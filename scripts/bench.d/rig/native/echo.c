/* The ceiling: a responder that stands in for the daemon and only answers.
 *
 *     echo PORT PREFIX [FILE]
 *
 * Answers every request below PREFIX at once, at QoS 1, on the server's reply topic, with the correlation data and the
 * id that came and otherwise always the same text, as long as a real reply; an array with an array as long. Prints
 * "ready" once subscribed and runs until it is ended. What broker and load generator reach with it, no daemon exceeds.
 * With FILE what one read of the socket brought is first written there and synced, over and over in the same place, as
 * a write-ahead log is: what broker, load generator and disk reach. */
#define _GNU_SOURCE
#include "mqtt.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MOST_ITEMS = 1000, MOST_ID = 128, PAGE = 4096, A_REQUEST = 64, LOG_SIZE = 32 << 20 };

static const char HEAD[] = "{\"id\":\"";
static const char TAIL[] =
    "\",\"status\":\"accepted\",\"drops\":\"100\",\"covers\":{\"from\":\"46700\",\"to\":\"46800\"},"
    "\"claim\":{\"channel_id\":\"5DB01B7FFED6B67E6B0414DED11E051D2EE2B7619CE0EAA6286D67A3A4D5BDB3\",\"amount\":\"46800\","
    "\"signature\":\"304402204EF0AFB78AC23ED1C472E74F4299C0C21F1B21D07EFC0A3838A420F76D783A400220154FB11B6F54320666E4C36C"
    "A7F686C16A3A0456800BBC43746F34AF50290064\","
    "\"public_key\":\"ED5F5AC8B98974A3CA843326D9B88CEBD0560177B973EE0B149F782CFAA06DC66A\"},"
    "\"source_account\":\"rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh\",\"destination_account\":"
    "\"rPEPPER7kfTD9w2To4CQk6UCfuHM9c6GDY\",\"destination_tag\":7,\"headroom\":\"49999953200\",\"replayed\":false}";

/* One item of a reply, the id taken from `at`, where a request's text is searched; returns where the search may go on. */
static const char *put_item(const char *at, const char *end, char **out) {
    const char *id = memmem(at, (size_t)(end - at), "\"id\":\"", 6);
    size_t size = 0;
    if (id) {
        at = id + 6;
        while (at + size < end && size < MOST_ID && at[size] != '"') size++;
    }
    *out = mempcpy(*out, HEAD, sizeof HEAD - 1);
    *out = mempcpy(*out, at, size);
    *out = mempcpy(*out, TAIL, sizeof TAIL - 1);
    return id ? at + size : NULL;
}

static size_t reply(const struct message *m, char *out) {
    const char *at = (const char *)m->payload, *end = at + m->payload_size;
    char *start = out;
    if (m->payload_size == 0 || *at != '[') {
        put_item(at, end, &out);
        return (size_t)(out - start);
    }
    *out++ = '[';
    for (int n = 0; n < MOST_ITEMS && (at = put_item(at, end, &out)); n++) {
        at = memchr(at, '{', (size_t)(end - at)); /* the next item, if there is one */
        if (!at) break;
        *out++ = ',';
    }
    *out++ = ']';
    return (size_t)(out - start);
}

static void answer(struct link *link, const struct message *m, char *scratch) {
    char topic[1024];
    const size_t verb = sizeof "claim" - 1;
    if (m->topic_size < verb || m->topic_size > sizeof topic - 8) die("a request on a topic nobody subscribed to");
    char *end = mempcpy(topic, m->topic, m->topic_size - verb);
    end = mempcpy(end, "reply", 5);
    size_t size = reply(m, scratch);
    if (!link_publish(link, topic, (size_t)(end - topic), m->correlation, m->correlation_size, scratch, size))
        die("more requests at once than the broker's window of %u takes replies", link->window);
    link_acknowledge(link, m->id);
}

struct disk {
    int file;
    off_t at;
    char *page;
};

static struct disk disk_open(const char *path) {
    struct disk disk = {open(path, O_CREAT | O_WRONLY, 0600), 0, make(PAGE)};
    if (disk.file < 0) die("cannot write %s", path);
    for (off_t at = 0; at < LOG_SIZE; at += PAGE)
        if (pwrite(disk.file, disk.page, PAGE, at) != PAGE) die("cannot write %s", path);
    if (fsync(disk.file)) die("cannot sync %s", path);
    return disk;
}

/* As many pages as so many requests take. */
static void disk_write(struct disk *disk, size_t requests) {
    for (size_t left = requests * A_REQUEST / PAGE + 1; left; left--, disk->at = (disk->at + PAGE) % LOG_SIZE)
        if (pwrite(disk->file, disk->page, PAGE, disk->at) != PAGE) die("the disk does not take what is written");
    if (fdatasync(disk->file)) die("the disk does not sync");
}

int main(int count, char **arguments) {
    if (count != 3 && count != 4) die("usage: echo PORT PREFIX [FILE]");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    char filter[400];
    snprintf(filter, sizeof filter, "%.300s/servers/+/claim", arguments[2]);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct link *link = make(sizeof *link);
    link_open(link, poll, NULL, (uint16_t)atoi(arguments[1]), arguments[2], filter);
    char *scratch = make(MOST_ITEMS * (sizeof HEAD + sizeof TAIL + MOST_ID + 1) + 2);
    struct disk disk = {.file = -1};
    if (count == 4) disk = disk_open(arguments[3]);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event event;
        struct message m;
        if (epoll_wait(poll, &event, 1, -1) < 1) continue;
        if (event.events & ~(uint32_t)EPOLLOUT) link_read(link);
        size_t requests = 0;
        for (enum packet kind; (kind = link_next(link, &m)) != NOTHING;)
            if (kind == PUBLISH) {
                answer(link, &m, scratch);
                requests += m.payload_size / A_REQUEST + 1;
            }
        if (requests && disk.file >= 0) disk_write(&disk, requests);
        link_flush(link);
    }
}
