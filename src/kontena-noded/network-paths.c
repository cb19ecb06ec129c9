/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "network-paths.h"

bool path_session_is_fresh(const PathSession *s, uint64_t realtime) {
        /* A clock that was set back makes no session old. */
        return s->handshake > 0 && (realtime < s->handshake || realtime - s->handshake < PATH_FRESH_USEC);
}

static const PathSession *find_session(const PathInput *in, uint32_t generation) {
        FOREACH_ARRAY(s, in->sessions, in->n_sessions)
                if (s->generation == generation)
                        return s;
        return NULL;
}

static const PathSession *find_fresh(const PathInput *in) {
        FOREACH_ARRAY(s, in->sessions, in->n_sessions)
                if (s->ready && path_session_is_fresh(s, in->realtime))
                        return s;
        return NULL;
}

static const PathSession *find_ready(const PathInput *in) {
        FOREACH_ARRAY(s, in->sessions, in->n_sessions)
                if (s->ready)
                        return s;
        return NULL;
}

/* Of a relayed peer the direct session says nothing about whether packets arrive: any device does. */
static void choose_wireguard(Path *p, const PathInput *in) {
        const PathSession *s = find_fresh(in) ?: find_ready(in);
        const PathSession *now = p->kind == PATH_WIREGUARD ? find_session(in, p->generation) : NULL;

        /* What does not work either is no reason to leave. */
        if (now && now->ready && (!s || !path_session_is_fresh(s, in->realtime)))
                s = now;
        if (!s) {
                p->kind = PATH_NONE;
                p->generation = 0;
                return;
        }
        p->kind = PATH_WIREGUARD;
        p->generation = s->generation;
}

static void choose(Path *p, const PathInput *in) {
        uint64_t waited = in->now - p->since;
        bool fresh = find_fresh(in);

        if (in->vxlan && in->vxlan_possible) {
                /* The peer takes it as soon as it is told what we were told. */
                if (p->kind == PATH_WIREGUARD && fresh && waited < PATH_VXLAN_DELAY_USEC)
                        choose_wireguard(p, in);
                else {
                        p->kind = PATH_VXLAN;
                        p->generation = 0;
                }
                return;
        }
        if (p->kind == PATH_VXLAN && in->vxlan_possible && !fresh && in->n_sessions > 0 &&
                        waited < PATH_VXLAN_GRACE_USEC)
                return;
        choose_wireguard(p, in);
}

static void judge(Path *p, const PathInput *in) {
        if (p->kind == PATH_VXLAN || find_fresh(in)) {
                p->health = PATH_UP;
                p->alive = p->attempt_since = in->now;
                return;
        }
        p->health = in->now - p->alive < PATH_DOWN_USEC ? PATH_CONNECTING : PATH_DOWN;
        if (in->now - p->attempt_since >= PATH_ATTEMPT_USEC) {
                p->attempt++;
                p->attempt_since = in->now;
        }
}

bool path_decide(Path *p, const PathInput *in) {
        PathKind before = p->kind;

        if (!p->known || p->vxlan != in->vxlan) {
                p->since = in->now;
                p->vxlan = in->vxlan;
        }
        if (!p->known)
                p->alive = p->attempt_since = in->now;
        p->known = true;

        choose(p, in);
        judge(p, in);

        if (in->vxlan || p->kind == PATH_VXLAN)
                p->vxlan_left = 0;
        else if (before == PATH_VXLAN)
                p->vxlan_left = in->now;
        else if (p->vxlan_left > 0 && in->now - p->vxlan_left >= PATH_VXLAN_LINGER_USEC)
                p->vxlan_left = 0;

        if (in->vxlan)
                return in->vxlan_possible && p->kind != PATH_VXLAN;
        if (p->kind == PATH_VXLAN || p->vxlan_left > 0 || p->health != PATH_UP)
                return true;
        /* A later generation is being taken up. */
        return in->n_sessions > 0 && p->generation != in->sessions[0].generation;
}

bool path_takes_vxlan(const Path *p, uint64_t now) {
        return p->vxlan || p->kind == PATH_VXLAN ||
               (p->vxlan_left > 0 && now - p->vxlan_left < PATH_VXLAN_LINGER_USEC);
}

uint16_t path_keepalive(const Path *p, const PathInput *in, uint32_t generation) {
        const PathSession *s = find_session(in, generation);

        if (!s || (p->kind != PATH_WIREGUARD && in->vxlan))
                return 0;
        if (p->kind == PATH_WIREGUARD && generation < p->generation)
                return 0; /* is left */
        return path_session_is_fresh(s, in->realtime) && !in->relayed ? PATH_KEEPALIVE_SEC
                                                                      : PATH_KEEPALIVE_CONNECTING_SEC;
}

bool path_needs(const Path *p, const PathInput *in, uint32_t generation, uint32_t current) {
        if (p->kind == PATH_WIREGUARD && p->generation == generation)
                return true;
        if (in->vxlan || !find_session(in, generation))
                return false;
        /* An earlier one only by who has no later one. */
        return generation == current || in->sessions[0].generation == generation;
}

static const char *const path_kind_table[_PATH_KIND_MAX] = {
        [PATH_NONE] = "none",
        [PATH_VXLAN] = "vxlan",
        [PATH_WIREGUARD] = "wireguard",
};
DEFINE_STRING_TABLE_LOOKUP(path_kind, PathKind);

static const char *const path_health_table[_PATH_HEALTH_MAX] = {
        [PATH_DOWN] = "down",
        [PATH_CONNECTING] = "connecting",
        [PATH_UP] = "up",
};
DEFINE_STRING_TABLE_LOOKUP(path_health, PathHealth);
