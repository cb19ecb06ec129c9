/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Events that an operator must act on carry one of these, and catalog/kontena.catalog says what to do:
 * log_struct(LOG_WARNING, 0, FIELDS(MESSAGE_NODE_OFFLINE, ...), ...) and journalctl -x. Never changed once released. */
#define MESSAGE_NODE_OFFLINE     "MESSAGE_ID=624a16215d0955ad935e8c0dbc69f1dc"
#define MESSAGE_NODE_REFUSED     "MESSAGE_ID=b7912bd5d5fe59ceb5baaa8bffae19b3"
#define MESSAGE_INSTANCE_CRASHED "MESSAGE_ID=598ad4e9a10c578c81a5920057abc3f2"
#define MESSAGE_INSTANCE_OOM     "MESSAGE_ID=aa7680d9a91854a09886107066e1f5d5"
#define MESSAGE_DEPLOY_FAILED    "MESSAGE_ID=31c8564da53b5f229b3a3dab71edbe44"
#define MESSAGE_STORE_READ_ONLY  "MESSAGE_ID=781501eed3b958b5b694832ec376d21a"
#define MESSAGE_STORE_WRITABLE   "MESSAGE_ID=a4465805661e5165872c3b7ec5428aa3"
#define MESSAGE_NETWORK_RESTORED "MESSAGE_ID=063f41985ab85a988dc5114244b32e3d"
#define MESSAGE_SUBNET_COLLISION "MESSAGE_ID=38f718685dad593e959f594498f41c06"
