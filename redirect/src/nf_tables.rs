//! The kernel's names and numbers for nftables; nothing is done with them here.
//!
//! From `include/uapi/linux/netfilter.h`, `netfilter/nfnetlink.h`, `netfilter/nf_tables.h` and `netfilter/nf_nat.h` below
//! it. They are the kernel's promise to programs: none ever changes.

/// `enum nft_registers`: where one expression leaves 16 bytes for the next.
pub(crate) const NFT_REG_1: u32 = 1;

/// Netfilter's part of netlink (`include/uapi/linux/netlink.h`).
pub(crate) const NETLINK_NETFILTER: i32 = 12;

/// nftables' part of that.
pub(crate) const NFNL_SUBSYS_NFTABLES: u8 = 10;
/// The version of `struct nfgenmsg`.
pub(crate) const NFNETLINK_V0: u8 = 0;
/// Between this message and the next, all is done or nothing.
pub(crate) const NFNL_MSG_BATCH_BEGIN: u16 = 16;
pub(crate) const NFNL_MSG_BATCH_END: u16 = 17;

/// Neither family, for messages about none.
pub(crate) const NFPROTO_UNSPEC: u8 = 0;
/// IPv4 and IPv6 together.
pub(crate) const NFPROTO_INET: u8 = 1;

/// `enum nf_inet_hooks`: before the kernel has decided where a packet goes.
pub(crate) const NF_INET_PRE_ROUTING: u32 = 0;
/// `enum nf_ip_hook_priorities`, `NF_IP_PRI_NAT_DST`: where destinations are rewritten.
pub(crate) const PRIORITY_DSTNAT: i32 = -100;
/// What becomes of packets that no rule wants.
pub(crate) const NF_ACCEPT: u32 = 1;

/// `enum nf_tables_msg_types`.
pub(crate) const NFT_MSG_NEWTABLE: u8 = 0;
pub(crate) const NFT_MSG_DELTABLE: u8 = 2;
pub(crate) const NFT_MSG_NEWCHAIN: u8 = 3;
pub(crate) const NFT_MSG_GETCHAIN: u8 = 4;
pub(crate) const NFT_MSG_NEWRULE: u8 = 6;
pub(crate) const NFT_MSG_GETRULE: u8 = 7;

/// `enum nft_table_attributes`. In those of chains and rules, 1 is the table's name as well.
pub(crate) const NFTA_TABLE_NAME: u16 = 1;

/// `enum nft_chain_attributes`.
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
pub(crate) const NFTA_CHAIN_TYPE: u16 = 7;

/// `enum nft_hook_attributes`.
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(crate) const NFTA_HOOK_PRIORITY: u16 = 2;

/// `enum nft_rule_attributes`.
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_EXPRESSIONS: u16 = 4;

/// `enum nft_list_attributes`: one of the expressions.
pub(crate) const NFTA_LIST_ELEM: u16 = 1;

/// `enum nft_expr_attributes`.
pub(crate) const NFTA_EXPR_NAME: u16 = 1;
pub(crate) const NFTA_EXPR_DATA: u16 = 2;

/// `enum nft_data_attributes`.
pub(crate) const NFTA_DATA_VALUE: u16 = 1;

/// `enum nft_meta_attributes` and two of `enum nft_meta_keys`: what a packet has beside its bytes.
pub(crate) const NFTA_META_DREG: u16 = 1;
pub(crate) const NFTA_META_KEY: u16 = 2;
pub(crate) const NFT_META_IIFNAME: u32 = 6;
pub(crate) const NFT_META_L4PROTO: u32 = 16;
/// Length of an interface's name in a register, filled up with zeros.
pub(crate) const IFNAMSIZ: usize = 16;
pub(crate) const IPPROTO_TCP: u8 = 6;

/// `enum nft_cmp_attributes` and two of `enum nft_cmp_ops`: go on only if it holds.
pub(crate) const NFTA_CMP_SREG: u16 = 1;
pub(crate) const NFTA_CMP_OP: u16 = 2;
pub(crate) const NFTA_CMP_DATA: u16 = 3;
pub(crate) const NFT_CMP_EQ: u32 = 0;
pub(crate) const NFT_CMP_NEQ: u32 = 1;

/// `enum nft_payload_attributes` and one of `enum nft_payload_bases`: bytes of the packet.
pub(crate) const NFTA_PAYLOAD_DREG: u16 = 1;
pub(crate) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(crate) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(crate) const NFTA_PAYLOAD_LEN: u16 = 4;
pub(crate) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;

/// `enum nft_immediate_attributes`: a value of our own.
pub(crate) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(crate) const NFTA_IMMEDIATE_DATA: u16 = 2;

/// `enum nft_redir_attributes`: to this machine, at the port in a register.
pub(crate) const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
pub(crate) const NFTA_REDIR_FLAGS: u16 = 3;
/// A port is given.
pub(crate) const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
