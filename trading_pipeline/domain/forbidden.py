"""Leveraged and inverse exchange-traded products: no entry, whatever a strategy lists (F2, invariant 39).

Sources: the fund lists of the issuers named below (proshares.com, direxion.com, graniteshares.com,
rexshares.com, microsectors.com, tradretfs.com, volatilityshares.com, axsinvestments.com). Issuers add
products every month, so the list is a floor: `forbidden_symbols` in the account limits adds to it and
nothing takes away from it. Products that were closed stay listed; history is traded in backtests.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


def _symbols(line: str) -> frozenset[str]:
    return frozenset(line.split())


LEVERAGED_BY_ISSUER: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "ProShares": _symbols(
            "TQQQ SQQQ UPRO SPXU SSO SDS QLD QID UDOW SDOW DDM DXD URTY SRTY UWM TWM UMDD SMDD MVV MZZ SAA SDD SH PSQ DOG RWM MYY SBB "
            "UYG SKF SEF ROM REW URE SRS REK UYM SMN DIG DUG RXL RXD UXI SIJ UGE SZK UCC SCC UPW SDP USD SSG BIB BIS SKYU UCYB "
            "UCO SCO BOIL KOLD UGL GLL AGQ ZSL UVXY SVXY UBT TBT TBF TTT TBX PST UST EUM EFZ EPV EUO YCS ULE YCL EET EEV EFO EFU "
            "EZJ EWV FXP XPP YXI UPV UBR BZQ BITU BITI SBIT ETHT ETHD"
        ),
        "Direxion": _symbols(
            "SPXL SPXS SPUU SPDN TNA TZA MIDU FAS FAZ TECL TECS SOXL SOXS NUGT DUST JNUG JDST GUSH DRIP ERX ERY YINN YANG EDC EDZ "
            "TMF TMV TYD TYO CURE PILL LABU LABD DRN DRV NAIL RETL DPST UTSL TPOR DFEN DUSL WANT WEBL WEBS HIBL HIBS EURL MEXX INDL "
            "BRZU KORU CHAU CWEB TSLL TSLS NVDU NVDD AAPU AAPD AMZU AMZD GGLL GGLS MSFU MSFD METU METD NFXL NFXS AVL AVS MUU MUD "
            "TSMX TSMZ PLTU PLTD XOMX XOMZ LMBO REKT"
        ),
        "GraniteShares": _symbols("NVDL NVD TSLR TSDD CONL AMDL FBL AAPB MSFL BABX PTIR SMCL TSMU MVLL"),
        "REX and Tuttle": _symbols("NVDX NVDQ TSLT TSLZ MSTU MSTZ BTCL BTCZ ETU ETQ SARK"),
        "MicroSectors": _symbols(
            "FNGU FNGD FNGO BULZ BERZ GDXU GDXD NRGU NRGD BNKU BNKD OILU OILD WTIU WTID SHNY FLYU FLYD JETU JETD"
        ),
        "AXS and Tradr": _symbols("TSLQ NVDS TARK SPYQ"),
        "Defiance": _symbols("MSTX SMST SMCX RGTX"),
        "Volatility Shares": _symbols("UVIX SVIX BITX ETHU SOLT"),
        "VelocityShares, closed": _symbols("TVIX UWTI DWTI UGAZ DGAZ UGLD DGLD USLV DSLV XIV ZIV"),
    }
)

LEVERAGED_AND_INVERSE: Final[frozenset[str]] = frozenset().union(*LEVERAGED_BY_ISSUER.values())
"""All of them."""
