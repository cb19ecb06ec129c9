/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "sysctl.h"

#define CHILD_TIMEOUT_USEC (20 * USEC_PER_SEC) /* the kernel can be slow while others are torn down */
#define CHILD_NAME         "kontena-netns"
#define INTERFACE          "eth0"

static char *pin_path(const char *directory, const char *id) {
        return strjoin(directory, "/" NETNS_PREFIX, id);
}

/* A plain file is what remains when somebody died between making and mounting it. */
static int open_pinned(const char *path, int *ret) {
        _cleanup_close_ int fd = -EBADF;
        struct statfs s;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (fstatfs(fd, &s) < 0)
                return -errno;
        if (s.f_type != NSFS_MAGIC)
                return -ENOENT;

        *ret = TAKE_FD(fd);
        return 0;
}

bool netns_exists(const char *directory, const char *id) {
        _cleanup_free_ char *path = pin_path(directory, id);
        _cleanup_close_ int fd = -EBADF;

        return path && open_pinned(path, &fd) >= 0;
}

/* As ip-netns(8) does: a shared mount of its own, so that pins reach the mount namespaces of others and go from there. */
static int prepare_directory(const char *directory, KError *reterr) {
        int r;

        r = mkdir_p(directory, 0755);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make '%s': %m.", directory);
        if (mount("", directory, "none", MS_SHARED | MS_REC, NULL) >= 0)
                return 0;
        if (errno != EINVAL)
                return kerror_set_errno(reterr, -errno, "Cannot share the mount '%s': %m.", directory);
        if (mount(directory, directory, "none", MS_BIND | MS_REC, NULL) < 0 ||
                        mount("", directory, "none", MS_SHARED | MS_REC, NULL) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot mount '%s' on itself: %m.", directory);
        return 0;
}

typedef struct Work {
        const Netns *ns;
        const char *path;
        Netlink *outside, *inside;
        int fd; /* of the namespace */
        unsigned changes;
} Work;

static void count_change(const char *what, void *userdata) {
        unsigned *n = userdata;

        (*n)++;
}

static int ensure_sysctls(KError *reterr) {
        static const struct {
                const char *path, *value;
        } settings[] = {
                { "net/ipv4/ip_unprivileged_port_start", "0" },
                { "net/ipv4/ping_group_range", "0 2147483647" },
                { "net/ipv4/conf/all/accept_redirects", "0" },
                { "net/ipv4/conf/default/accept_redirects", "0" },
                { "net/ipv6/conf/default/addr_gen_mode", "1" },
        };
        int r;

        FOREACH_ARRAY(s, settings, ELEMENTSOF(settings)) {
                r = sysctl_ensure(s->path, s->value, reterr);
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        return 0;
}

static int ensure_veth(Work *w, const char *host_name, KError *reterr) {
        const Netns *ns = w->ns;
        _cleanup_free_ char *alias = NULL;
        RtnlLink inner = {}, outer = {};
        uint8_t mac[MAC_SIZE];
        bool fresh = false;
        int r;

        alias = strjoin("kontena instance ", ns->id);
        if (!alias)
                return -ENOMEM;
        overlay_instance_mac(ns->address, mac);

        r = rtnl_link_by_name(w->inside, INTERFACE, &inner, reterr);
        if (r < 0 && r != -ENODEV)
                return r;
        if (r >= 0)
                r = rtnl_link_by_name(w->outside, host_name, &outer, reterr);
        if (r < 0 && r != -ENODEV)
                return r;

        if (r == -ENODEV) {
                /* Left from an earlier attempt or another namespace of this instance. */
                r = rtnl_delete_link(w->outside, host_name);
                if (r >= 0 && inner.index > 0)
                        r = rtnl_delete_link(w->inside, INTERFACE);
                if (r >= 0)
                        r = netlink_flush(w->inside, reterr);
                if (r >= 0)
                        r = rtnl_add_veth(w->outside, host_name, ns->mtu, INTERFACE, mac, w->fd);
                if (r < 0)
                        return r;
                fresh = true;
                outer = (RtnlLink){ .mtu = ns->mtu };
                inner = (RtnlLink){ .mtu = ns->mtu };
                memcpy(inner.mac, mac, MAC_SIZE);
        }

        if (!streq(outer.alias, alias))
                r = rtnl_set_alias(w->outside, host_name, alias);
        if (r >= 0 && (fresh || outer.addr_gen_mode != IN6_ADDR_GEN_MODE_NONE))
                r = rtnl_set_no_ipv6_address(w->outside, host_name);
        if (r >= 0 && outer.master != (uint32_t) ns->bridge_index) {
                r = rtnl_set_master(w->outside, host_name, ns->bridge_index);
                /* An instance may use its own published port; where bridges pass through netfilter that never leaves them. */
                if (r >= 0)
                        r = rtnl_set_hairpin(w->outside, host_name);
        }
        if (r >= 0 && outer.mtu != ns->mtu)
                r = rtnl_set_mtu(w->outside, host_name, ns->mtu);
        if (r >= 0 && !(outer.flags & IFF_UP))
                r = rtnl_set_up(w->outside, host_name);
        if (r >= 0)
                r = netlink_flush(w->outside, reterr);
        if (r < 0)
                return r;

        if (memcmp(inner.mac, mac, MAC_SIZE) != 0)
                r = rtnl_set_mac(w->inside, INTERFACE, mac);
        if (r >= 0 && inner.mtu != ns->mtu)
                r = rtnl_set_mtu(w->inside, INTERFACE, ns->mtu);
        if (r >= 0 && !(inner.flags & IFF_UP))
                r = rtnl_set_up(w->inside, INTERFACE);
        if (r >= 0)
                r = netlink_flush(w->inside, reterr);
        return r;
}

/* What a container with the right to do so added itself is left alone, but for an address that it had here before. */
static int ensure_address(Work *w, int index, KError *reterr) {
        RtnlAddress want = { .index = index, .address = w->ns->address, .length = w->ns->length };
        Ipv4Prefix block = { .address = want.address & ipv4_prefix_mask(want.length),
                .length = want.length };
        _cleanup_free_ RtnlAddress *is = NULL;
        bool present = false;
        size_t n;
        int r;

        r = rtnl_dump_addresses(w->inside, &is, &n, reterr);
        if (r < 0)
                return r;
        FOREACH_ARRAY(a, is, n) {
                if (a->index != index)
                        continue;
                if (a->address == want.address && a->length == want.length)
                        present = true;
                else if (a->address == want.address || ipv4_prefix_contains(&block, a->address)) {
                        r = rtnl_address(w->inside, false, INTERFACE, a);
                        if (r < 0)
                                return r;
                }
        }
        if (!present) {
                r = rtnl_address(w->inside, true, INTERFACE, &want);
                if (r < 0)
                        return r;
        }
        return netlink_flush(w->inside, reterr);
}

static int ensure_route(Work *w, int index, KError *reterr) {
        RtnlRoute want = { .gateway = w->ns->gateway,
                .index = index,
                .protocol = RTPROT_BOOT,
                .type = RTN_UNICAST,
                .onlink = true };
        _cleanup_free_ RtnlRoute *is = NULL;
        size_t n;
        int r;

        r = rtnl_dump_routes(w->inside, 0, &is, &n, reterr);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, is, n)
                if (i->length == 0 && i->metric == 0)
                        /* Ours, or one that the container put there on purpose. */
                        if (i->index != index || i->gateway == want.gateway)
                                return 0;

        r = rtnl_route(w->inside, true, INTERFACE, &want);
        return r < 0 ? r : netlink_flush(w->inside, reterr);
}

static int configure(Work *w, KError *reterr) {
        char host_name[IFNAMSIZ];
        RtnlLink lo, eth0;
        int r;

        overlay_veth_name(w->ns->id, host_name);
        netlink_on_change(w->outside, count_change, &w->changes);
        netlink_on_change(w->inside, count_change, &w->changes);

        r = rtnl_link_by_name(w->inside, "lo", &lo, reterr);
        if (r < 0)
                return r;
        if (!(lo.flags & IFF_UP)) {
                r = rtnl_set_up(w->inside, "lo");
                if (r >= 0)
                        r = netlink_flush(w->inside, reterr);
                if (r < 0)
                        return r;
        }

        r = ensure_veth(w, host_name, reterr);
        if (r < 0)
                return r;
        r = rtnl_link_by_name(w->inside, INTERFACE, &eth0, reterr);
        if (r < 0)
                return r == -ENODEV ? kerror_set(reterr, K_NETWORK, "The instance's '%s' went away at once.",
                                                      INTERFACE)
                                    : r;
        r = ensure_address(w, eth0.index, reterr);
        if (r < 0)
                return r;
        return ensure_route(w, eth0.index, reterr);
}

static int pin(const char *path, KError *reterr) {
        _cleanup_close_ int fd = -EBADF;

        fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make '%s': %m.", path);
        if (mount("/proc/self/ns/net", path, "none", MS_BIND, NULL) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot pin a network namespace at '%s': %m.", path);
        return 0;
}

/* In the child process, which alone ever leaves the machine's namespace. */
static int ensure_in_child(void *userdata, KError *reterr) {
        _cleanup_(netlink_freep) Netlink *outside = NULL, *inside = NULL;
        _cleanup_close_ int fd = -EBADF;
        Work *w = userdata;
        bool exists;
        int r;

        r = netlink_open(NETLINK_ROUTE, &outside);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot open a netlink socket: %m.");

        r = open_pinned(w->path, &fd);
        if (r < 0 && r != -ENOENT)
                return kerror_set_errno(reterr, r, "Cannot open the network namespace '%s': %m.", w->path);
        exists = r >= 0;
        if (exists) {
                if (setns(fd, CLONE_NEWNET) < 0)
                        return kerror_set_errno(reterr, -errno,
                                        "Cannot enter the network namespace '%s': %m.", w->path);
        } else {
                if (unshare(CLONE_NEWNET) < 0)
                        return kerror_set_errno(reterr, -errno, "Cannot make a network namespace: %m.");
                fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        return kerror_set_errno(
                                        reterr, -errno, "Cannot open the new network namespace: %m.");
                r = ensure_sysctls(reterr);
                if (r < 0)
                        return r;
        }

        r = netlink_open(NETLINK_ROUTE, &inside);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot open a netlink socket: %m.");

        w->outside = outside;
        w->inside = inside;
        w->fd = fd;
        r = configure(w, reterr);
        if (r < 0)
                return r;

        if (!exists) {
                r = pin(w->path, reterr);
                return r < 0 ? r : NETNS_CREATED;
        }
        return w->changes > 0 ? NETNS_REPAIRED : NETNS_UNCHANGED;
}

static int prepare(const Netns *ns, char **ret_path, KError *reterr) {
        int r;

        assert(instance_id_is_valid(ns->id));

        r = prepare_directory(ns->directory, reterr);
        if (r < 0)
                return r;
        *ret_path = pin_path(ns->directory, ns->id);
        return *ret_path ? 0 : -ENOMEM;
}

int netns_ensure(const Netns *ns, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = prepare(ns, &path, reterr);
        if (r < 0)
                return r;
        return run_in_child(CHILD_NAME, ensure_in_child, &(Work){ .ns = ns, .path = path },
                        CHILD_TIMEOUT_USEC, reterr);
}

int netns_ensure_start(sd_event *event, const Netns *ns, child_done_t done, void *userdata, ChildCall **ret,
                KError *reterr) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = prepare(ns, &path, reterr);
        if (r < 0)
                return r;
        return child_call_start(event, CHILD_NAME, ensure_in_child, &(Work){ .ns = ns, .path = path },
                        CHILD_TIMEOUT_USEC, done, userdata, ret, reterr);
}

int netns_remove(Netlink *nl, const char *directory, const char *id, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        char host_name[IFNAMSIZ];
        int r;

        assert(instance_id_is_valid(id));

        path = pin_path(directory, id);
        if (!path)
                return -ENOMEM;

        /* The kernel deletes the veth with the namespace, in its own time; asked to, it would keep us waiting for 20 ms. A
         * process that still holds the namespace loses its network now. */
        overlay_veth_name(id, host_name);
        r = rtnl_set_down(nl, host_name);
        if (r >= 0)
                r = netlink_flush(nl, reterr);

        /* Mounted more than once when two of us raced. */
        while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) >= 0)
                ;
        if (unlink(path) < 0 && errno != ENOENT && r >= 0)
                r = kerror_set_errno(reterr, -errno, "Cannot remove the network namespace '%s': %m.", path);
        return r;
}

int netns_list(const char *directory, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r;

        d = opendir(directory);
        if (!d && errno != ENOENT)
                return kerror_set_errno(reterr, -errno, "Cannot list '%s': %m.", directory);

        while (d && (de = readdir(d))) {
                const char *id = startswith(de->d_name, NETNS_PREFIX);

                if (!id || !instance_id_is_valid(id))
                        continue;
                r = strv_extend(&l, id);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}
