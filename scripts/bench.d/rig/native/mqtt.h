/* The little MQTT 5 that a load generator needs: one blocking handshake, then non-blocking QoS 1 both ways.
 *
 * Sources: OASIS MQTT 5.0 sections 2.1 (fixed header), 3.1-3.4 (CONNECT, CONNACK, PUBLISH, PUBACK), 3.8 (SUBSCRIBE),
 * 4.9 (the broker's window: Receive Maximum). */
#ifndef BENCH_MQTT_H
#define BENCH_MQTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes from `begin` to `end` are live; what lies before was taken, what lies behind is room. */
struct buffer {
    unsigned char *bytes;
    size_t begin, end, size;
};

/* One connection. `unsettled` of our messages wait for the broker's PUBACK; it takes `window` of them at a time. */
struct link {
    int fd, poll;
    void *owner;
    bool wants_write;
    uint32_t window, unsettled;
    uint16_t last_id;
    uint8_t used_ids[65536 / 8];
    struct buffer in, out;
};

/* A PUBLISH that came. The pointers hold until the next `link_read`. */
struct message {
    const unsigned char *topic, *correlation, *payload;
    size_t topic_size, correlation_size, payload_size;
    uint16_t id;
};

enum packet { NOTHING, PUBLISH, OTHER };

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *make(size_t size);

/* Connect to 127.0.0.1, subscribe to `filter` at QoS 1, and hand the socket to `poll` (an epoll instance). */
void link_open(struct link *link, int poll, void *owner, uint16_t port, const char *client, const char *filter);
/* Read what is there, at most once round. */
void link_read(struct link *link);
/* The next whole packet. A PUBLISH fills `message`; a PUBACK settles what it names and is OTHER. */
enum packet link_next(struct link *link, struct message *message);
/* Queue a PUBACK. */
void link_acknowledge(struct link *link, uint16_t id);
/* Queue a PUBLISH at QoS 1; false if the broker's window is full. */
bool link_publish(struct link *link, const char *topic, size_t topic_size, const void *correlation,
                  size_t correlation_size, const void *payload, size_t payload_size);
/* Write what is queued, as far as the socket takes it; the rest when epoll says so. */
void link_flush(struct link *link);

#endif
