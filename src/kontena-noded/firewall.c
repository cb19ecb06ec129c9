/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firewall.h"

#include <dlfcn.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>

#include "file-util.h"
#include "in-child.h"
#include "netlink.h"
#include "string-util.h"

#define TABLE              "kontena"
#define CHILD_NAME         "kontena-nft" /* the kernel tells who changed the rules by this */
#define CHILD_TIMEOUT_USEC (10 * USEC_PER_SEC)

struct Firewall {
        NetlinkMonitor *monitor;
        firewall_touched_t on_touched;
        void *userdata;
        bool touched; /* by the transaction whose messages are coming in */
        bool intact;  /* what is applied is what follows */
        char *table;
        char **elements;
};

/* Loaded in the child only: linked, the library costs the daemon 0.6 MB from its start, and 3.3 MB once used. */
typedef struct Nft {
        struct nft_ctx *(*ctx_new)(uint32_t flags);
        int (*buffer_error)(struct nft_ctx *c);
        int (*buffer_output)(struct nft_ctx *c);
        int (*run)(struct nft_ctx *c, const char *buffer);
        const char *(*get_error)(struct nft_ctx *c);
} Nft;

static int nft_load(Nft *ret, KError *reterr) {
        Nft n;
        void *h;

        h = dlopen("libnftables.so.1", RTLD_LAZY | RTLD_LOCAL);
        if (!h)
                return kerror_set(
                                reterr, K_NOT_SUPPORTED, "Firewall rules need libnftables: %s.", dlerror());

        n = (Nft){
                .ctx_new = (typeof(n.ctx_new)) dlsym(h, "nft_ctx_new"),
                .buffer_error = (typeof(n.buffer_error)) dlsym(h, "nft_ctx_buffer_error"),
                .buffer_output = (typeof(n.buffer_output)) dlsym(h, "nft_ctx_buffer_output"),
                .run = (typeof(n.run)) dlsym(h, "nft_run_cmd_from_buffer"),
                .get_error = (typeof(n.get_error)) dlsym(h, "nft_ctx_get_error_buffer"),
        };
        if (!n.ctx_new || !n.buffer_error || !n.buffer_output || !n.run || !n.get_error)
                return kerror_set(reterr, K_NOT_SUPPORTED, "This libnftables lacks what we need of it.");

        *ret = n;
        return 0;
}

static int run_nft(void *userdata, KError *reterr) {
        struct nft_ctx *ctx;
        const char *error;
        Nft nft = {};
        int r;

        r = nft_load(&nft, reterr);
        if (r < 0)
                return r;
        ctx = nft.ctx_new(NFT_CTX_DEFAULT);
        if (!ctx || nft.buffer_error(ctx) != 0 || nft.buffer_output(ctx) != 0)
                return -ENOMEM;

        if (nft.run(ctx, userdata) == 0)
                return 0;

        /* "internal:0:0-0: Error: Could not process rule: ...", then the rule and marks below it. */
        error = strempty(nft.get_error(ctx));
        error = strstr(error, "Error: ") ?: error;
        return kerror_set(reterr, K_NETWORK, "Cannot change the firewall rules: %.*s.",
                        (int) strcspn(error, "\n"), error);
}

int firewall_run(const char *commands, KError *reterr) {
        return run_in_child(CHILD_NAME, run_nft, (void *) commands, CHILD_TIMEOUT_USEC, reterr);
}

/* Attribute 1 is the table's name in messages of all kinds but NEWGEN, which ends a transaction. */
static int on_message(const struct nlmsghdr *h, void *userdata) {
        const struct nlattr *tb[NFTA_GEN_MAX + 1];
        Firewall *f = userdata;
        const char *name;

        if (!h) {
                f->intact = false;
                f->on_touched(f->userdata);
                return 0;
        }
        if (NFNL_SUBSYS_ID(h->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
                        netlink_attributes(h, sizeof(struct nfgenmsg), tb, NFTA_GEN_MAX) < 0)
                return 0;

        if (NFNL_MSG_TYPE(h->nlmsg_type) != NFT_MSG_NEWGEN) {
                const struct nfgenmsg *m = mnl_nlmsg_get_payload(h);

                name = netlink_get_string(tb[NFTA_TABLE_NAME]);
                if (m->nfgen_family == NFPROTO_INET && name && streq(name, TABLE))
                        f->touched = true;
                return 0;
        }

        name = netlink_get_string(tb[NFTA_GEN_PROC_NAME]);
        if (f->touched && !(name && streq(name, CHILD_NAME))) {
                f->intact = false;
                f->on_touched(f->userdata);
        }
        f->touched = false;
        return 0;
}

int firewall_new(sd_event *event, firewall_touched_t on_touched, void *userdata, Firewall **ret,
                KError *reterr) {
        _cleanup_(firewall_freep) Firewall *f = NULL;
        int r;

        f = new0(Firewall, 1);
        if (!f)
                return -ENOMEM;
        f->on_touched = on_touched;
        f->userdata = userdata;

        if (event) {
                r = netlink_monitor_new(event, NETLINK_NETFILTER, (unsigned[]){ NFNLGRP_NFTABLES }, 1,
                                on_message, f, &f->monitor);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot watch the firewall rules: %m.");
        }

        *ret = TAKE_PTR(f);
        return 0;
}

Firewall *firewall_free(Firewall *f) {
        if (!f)
                return NULL;

        netlink_monitor_free(f->monitor);
        free(f->table);
        strv_free(f->elements);
        return mfree(f);
}

int firewall_apply(Firewall *f, const FirewallRules *rules, KError *reterr) {
        _cleanup_free_ char *table = NULL, *difference = NULL, *text = NULL;
        _cleanup_strv_free_ char **elements = NULL;
        bool whole;
        int r;

        r = firewall_table_text(rules, &table);
        if (r < 0)
                return r;
        r = firewall_elements(rules, &elements);
        if (r < 0)
                return r;

        whole = !f->intact || !streq_ptr(f->table, table);
        r = firewall_difference(whole ? NULL : f->elements, elements, &difference);
        if (r < 0)
                return r;
        if (!whole && isempty(difference))
                return 0;

        text = strjoin(whole ? table : "", difference);
        if (!text)
                return -ENOMEM;
        /* Whatever happens: known again only when it is known to be done. */
        f->intact = false;
        r = firewall_run(text, reterr);
        if (r < 0)
                return r;

        free(f->table);
        f->table = TAKE_PTR(table);
        strv_free(f->elements);
        f->elements = TAKE_PTR(elements);
        f->intact = true;
        return 1;
}

int firewall_remove(Firewall *f, KError *reterr) {
        f->intact = false;
        return firewall_run("table inet " TABLE " {}\ndelete table inet " TABLE "\n", reterr);
}
